"""One run on disk: its folder and what is in it.

Layout: ``recipe.yaml environment.json command.txt model.json metrics.csv tensorboard/ checkpoints/ samples.npz
model.keras summary.json evaluation/ export/``.
"""

import contextlib
import csv
import datetime
import io
import os
import shlex
import sys
from pathlib import Path

import numpy as np

from kzoo import configs
from kzoo import recipe as recipes
from kzoo.cards import check_card
from kzoo.errors import RequestError
from kzoo.files import lock, new_folder, read_json, write_json, write_text
from kzoo.machine import environment, now

# Written before recipe.yaml, which makes a folder a run.
_BEGINNINGS = ("origin.json", "environment.json", "command.txt")


class Run:
    """A training on disk, finished or not.

    Attributes:
        path: The run's folder.
    """

    def __init__(self, path: str | os.PathLike[str]):
        """Open a run's folder; of a run it gives the same one.

        Raises:
            RequestError: The folder is not there, or it holds no recipe.
        """
        self.path = Path(path)
        if not (self.path / "recipe.yaml").is_file():
            reason = "it holds no recipe.yaml" if self.path.is_dir() else "there is no such folder"
            raise RequestError(f"{path} is not a run folder: {reason}")

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def create(cls, recipe: recipes.Recipe, requested: str, out: str | Path | None = None) -> "Run":
        """Make a run's folder and write what is known before the training starts.

        Args:
            recipe: What will be trained, resolved.
            requested: Digest of the recipe as it was asked for; a run goes on only with the recipe that it began with.
            out: The folder, which must be empty or absent; default ``runs/<model>/<recipe>/<time>-s<seed>``.

        Raises:
            RequestError: The folder is taken or cannot be written.
        """
        path = Path(out) if out else _default_folder(recipe)
        try:
            if out:
                path.mkdir(parents=True, exist_ok=True)
            else:
                path = new_folder(path)
            # What a process that was killed while it made the folder left behind is no hindrance, half a file neither.
            taken = any(p.name not in _BEGINNINGS and p.name[0] != "." for p in path.iterdir())
        except OSError as error:
            raise RequestError(f"the run folder {path} cannot be made: {error.strerror}") from None
        if taken:
            raise RequestError(f"{path} is not empty; name another --out, or go on from a run with --resume {path}")
        write_json(path / "origin.json", {"recipe": recipe.name, "requested": requested, "created": now()})
        write_json(path / "environment.json", environment())
        write_text(path / "command.txt", shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]) + "\n")
        # What makes the folder a run comes last: one that was killed before it is no run yet.
        write_text(path / "recipe.yaml", recipe.dump())
        return cls(path)

    @property
    def recipe(self) -> recipes.Recipe:
        """The resolved recipe that the run was started with."""
        text = (self.path / "recipe.yaml").read_text("utf-8")
        values = configs.parse(text, f"{self.path}/recipe.yaml")
        return recipes.from_values(values, origin=f"{self.path}/recipe.yaml", name=self.origin.get("recipe", ""))

    @property
    def origin(self) -> dict:
        """Name of the recipe and time of the start."""
        return read_json(self.path / "origin.json", {})

    @property
    def card(self) -> dict:
        """What inference needs beside the weights: model, arguments, labels, preprocessing."""
        card = read_json(self.path / "model.json")
        if card is None:
            raise RequestError(f"{self.path} has no model.json yet: its training has not begun")
        return check_card(card, str(self.path / "model.json"))

    @property
    def summary(self) -> dict | None:
        """Figures of the finished training; None while it is unfinished."""
        return read_json(self.path / "summary.json")

    @property
    def weights(self) -> Path:
        """The weights to use: the best by the monitored figure, or the last.

        Raises:
            RequestError: No checkpoint was written yet.
        """
        for name in ("best", "last"):
            if (self.checkpoint(name)).is_file():
                return self.checkpoint(name)
        raise RequestError(f"{self.path} holds no checkpoint yet; go on with `kzoo train --resume {self.path}`")

    @property
    def samples(self) -> dict[str, np.ndarray]:
        """A few raw inputs, by name, with which exports are verified and graphs warmed.

        Raises:
            RequestError: They are missing or unreadable.
        """
        path = self.path / "samples.npz"
        try:
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        except FileNotFoundError:
            raise RequestError(f"{self.path} has no samples.npz, the inputs to verify an export with") from None
        except Exception as error:  # a damaged zip raises one of many
            raise RequestError(f"{path} cannot be read: {error}") from None

    def checkpoint(self, name: str) -> Path:
        """Path of the checkpoint called ``best`` or ``last``."""
        return self.path / "checkpoints" / f"{name}.npz"

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keep other processes from training in this folder; see `kzoo.files.lock`."""
        return lock(self.path, "training")

    def sweep(self) -> None:
        """Remove the checkpoints that a killed process left half written."""
        for leftover in (self.path / "checkpoints").glob(".*.npz"):
            leftover.unlink(missing_ok=True)

    def append_metrics(self, row: dict) -> None:
        """Add an epoch's row to ``metrics.csv``, whose columns the first row fixes."""
        self.write_metrics([*self.metrics(), row])

    def write_metrics(self, rows: list[dict]) -> None:
        """Put these rows in the place of those in ``metrics.csv``, at once; without rows there is no file."""
        path = self.path / "metrics.csv"
        if not rows:
            path.unlink(missing_ok=True)
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(k for r in rows for k in r)), lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: format(v, ".9g") if isinstance(v, float) else v for k, v in r.items()} for r in rows)
        if not path.is_file() or path.read_text("utf-8") != text.getvalue():
            write_text(path, text.getvalue())

    def metrics(self, before_epoch: int | None = None) -> list[dict]:
        """Rows of ``metrics.csv``, those below an epoch if it is given."""
        try:
            lines = (self.path / "metrics.csv").read_text("utf-8").splitlines()
        except FileNotFoundError:
            return []
        rows = list(csv.DictReader(lines))
        return [r for r in rows if before_epoch is None or int(r["epoch"]) < before_epoch]


def _default_folder(recipe: recipes.Recipe) -> Path:
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}-s{recipe.train.seed}"
    return Path("runs") / recipe.model / recipe.short_name / stem
