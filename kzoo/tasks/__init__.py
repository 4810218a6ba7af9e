"""What models are for.

Each task is a package: ``settings.Recipe`` types its recipes, ``task.Task`` trains and judges with data, and
``answers.Answers`` turns raw inputs into finished answers without data.
"""

import importlib

from kzoo.errors import RequestError


def open_task(recipe):
    """The recipe's task, ready to open its data."""
    return _part(recipe.task, "task").Task(recipe)


def open_answers(card: dict):
    """What answers for a trained model, from its card (``model.json``)."""
    return _part(card["task"], "answers").Answers(card)


def _part(task: str, part: str):
    try:
        return importlib.import_module(f"kzoo.tasks.{task}.{part}")
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("kzoo."):
            raise RequestError(f"the zoo has no task {task!r}") from None
        raise
