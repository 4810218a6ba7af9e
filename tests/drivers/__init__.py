"""How the shared tests drive the models and recipes of each task, one module for each.

A driver module has ``batch(model)``, a small batch of inputs and targets; ``loss(outputs, targets)``;
``is_fitted(outputs, targets)``, whether an overfitted batch is answered rightly; ``smoke(recipe, folder)``, what to
override so that a shipped recipe trains for a few steps on stand-in data; and ``check(figures)``, which asserts that
the figures of the test part are those of that stand-in.
"""

import importlib


def of_task(task: str):
    """The driver of a task."""
    return importlib.import_module(f"tests.drivers.{task}")
