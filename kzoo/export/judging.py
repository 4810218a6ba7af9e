"""What a loss of precision costs: the task's own figure on the test part, beside that of the float network.

Data without a test part are judged on the validation part.
"""

import math
from functools import cached_property
from pathlib import Path
from typing import Any

from kzoo import artefacts
from kzoo.errors import KzooError
from kzoo.run import Run

# How much worse than the float network's a figure may be, as a share of it.
MOST_LOST = 0.02


class Judge:
    """A run's task with its data, opened when it is first needed."""

    def __init__(self, run: Run):
        self.run = run
        self._float: dict[str, Any] | None = None

    @cached_property
    def task(self):
        """The opened task.

        Raises:
            RequestError: The data are not there.
        """
        from kzoo import tasks

        task = tasks.open_task(self.run.recipe)
        task.open()
        return task

    def judge(self, model, card: dict, artefact: Path, written) -> None:
        """Note an artefact's figure, or why it cannot be judged."""
        try:
            split = "test" if "test" in self.task.splits else "validation"
            if self._float is None:
                self._float = self.task.evaluate(model, split)
            found = self.task.evaluate(artefacts.Network(artefact, model, card), split)
        except KzooError as error:
            written.failure = f"cannot be judged on the test part: {error}"
            return
        name = self.task.monitor.removeprefix("val_")
        value, reference = float(found[name]), float(self._float[name])
        allowed = max(MOST_LOST * abs(reference), _spread(self._float, name))
        written.test = {"figure": name, "split": split, "value": value, "float": reference, "allowed": allowed}


def lost(test: dict[str, Any]) -> float:
    """How much worse an artefact's figure is than the float network's."""
    from kzoo.tasks.callbacks import higher_is_better

    gap = test["float"] - test["value"]
    return gap if higher_is_better(test["figure"]) else -gap


def _spread(figures: dict[str, Any], name: str) -> float:
    """What a figure would change by chance with other episodes (two standard errors) or examples (one)."""
    returns = figures.get("returns")
    if returns:
        mean = sum(returns) / len(returns)
        return 2 * math.sqrt(sum((r - mean) ** 2 for r in returns)) / len(returns)
    if name == "accuracy" and figures.get("examples"):
        return math.sqrt(figures[name] * (1 - figures[name]) / figures["examples"])
    return 0.0
