"""One trial: train what was proposed, on each of its seeds, in processes of their own, and judge it."""

import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from kzoo import process
from kzoo import recipe as recipes
from kzoo.errors import RequestError, nearest
from kzoo.run import Run
from kzoo.search.engine import Outcome, Proposal

_KILLS = 8  # a training that is killed so often in a row without finishing an epoch has failed

Curve = tuple[float, ...]


class Trials:
    """Trains and judges trials in a search's folder.

    Attributes:
        recipe: The parent.
        objective: The figure to judge by, and its `direction`.
    """

    def __init__(self, folder: Path, recipe: recipes.Recipe, objective: str, direction: str):
        self.folder, self.recipe, self.objective, self.direction = folder, recipe, objective, direction

    def run(
        self, proposal: Proposal, share: process.Share | None = None, watch: Callable[[Curve], bool] | None = None
    ) -> Outcome:
        """Train one trial, or go on with it, and judge it.

        Args:
            proposal: What to train.
            share: The part of the machine that it may use.
            watch: Called about twice a second with the objective's values so far; ends the trial by returning true,
                which makes it a pruned one, or by raising.

        Raises:
            RequestError: The objective is not among the figures of an epoch.
        """
        began = time.monotonic()
        try:
            recipe = self.recipe.override({**self.recipe.search.during, **proposal.values})
        except RequestError as error:
            return Outcome("failed", reason=str(error))
        found = []
        for number in range(self.recipe.search.seeds):
            # A seed that was finished before a kill is only judged again.
            seeded = recipe.override({"train.seed": recipe.train.seed + number}) if number else recipe
            found.append(self._train(proposal, seeded, share, watch))
            if found[-1].status != "completed":
                break
        seconds, last = round(time.monotonic() - began, 1), found[-1]
        if len(found) == 1 or last.status != "completed":
            return Outcome(last.status, last.score, last.epochs, seconds, last.reason, last.curve)
        return Outcome("completed", statistics.median(f.score for f in found), last.epochs, seconds)

    def folder_of(self, number: int, seed: int) -> Path:
        """Folder of a trial; of each of its seeds where it has several."""
        trial = self.folder / "trials" / f"{number:04d}"
        return trial if self.recipe.search.seeds == 1 else trial / f"s{seed}"

    def _train(self, proposal: Proposal, recipe: recipes.Recipe, share, watch) -> Outcome:
        """Train one of a trial's seeds, again from its checkpoint where it is killed."""
        folder = self.folder_of(proposal.number, recipe.train.seed)
        if proposal.parent is not None:
            parent = self.folder_of(proposal.parent, recipe.train.seed) / "run"
            # Without it, as on a machine of its own, the trial only takes longer.
            if parent.is_dir():
                process.inherit(parent, folder / "run")
        look = (lambda: watch(self._curve(folder / "run"))) if watch else None
        kills, reached = 0, self._epochs(folder)
        while True:
            ending = process.train(folder, recipe, proposal.until, share=share, watch=look)
            if not ending.killed:
                break
            kills, before, reached = kills + 1, reached, self._epochs(folder)
            if reached > before:
                kills = 0
            elif kills == _KILLS:
                break
        if ending.reason:
            return Outcome("failed", reason=ending.reason)
        return self._judge(folder / "run", ending.stopped)

    def _judge(self, run: Path, stopped: bool) -> Outcome:
        """Best value of the objective, number of epochs, and what is wrong with it."""
        rows = Run(run).metrics()
        figures = [k for k in (rows[0] if rows else {}) if k not in ("epoch", "seconds")]
        if self.objective not in figures:
            hint = nearest(self.objective, figures)
            raise RequestError(f"search.objective {self.objective!r} is not among the figures of an epoch{hint}")
        curve = self._curve(run)
        if not all(math.isfinite(v) for v in curve):
            return Outcome("failed", epochs=len(curve), reason=f"{self.objective} is not a finite number")
        best = (max if self.direction == "max" else min)(curve)
        return Outcome("pruned" if stopped else "completed", best, len(curve), curve=curve)

    def _curve(self, run: Path) -> Curve:
        """Values of the objective after each epoch so far."""
        rows = Run(run).metrics() if (run / "metrics.csv").is_file() else []
        return tuple(float(row.get(self.objective) or "nan") for row in rows)

    def _epochs(self, folder: Path) -> int:
        return len(self._curve(folder / "run"))
