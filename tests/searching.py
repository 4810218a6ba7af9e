"""What the tests of the search share: a space, a trainer without networks, and readers of a search's files."""

import csv
import errno
import json
import math
import signal
from pathlib import Path

import kzoo
from kzoo.files import write_json, write_text
from kzoo.run import Run

RATE, DROPOUT, BATCH = "train.optimizer.learning_rate", "arguments.dropout", "data.batch_size"
SPACE = {
    RATE: {"min": 1e-4, "max": 1e-1, "log": True},
    DROPOUT: {"min": 0.0, "max": 0.5, "step": 0.1},
    BATCH: {"choices": [32, 64]},
}


def parent(**settings):
    settings = {"space": SPACE, "max_trials": 6, **settings}
    return kzoo.load_recipe("cnn_classifier/digits", {"search": settings, "train.epochs": 9})


def score(recipe) -> float:
    """A smooth hill with its top at a learning rate of 10 ** -2.5 and a dropout of 0.3."""
    rate, dropout = recipe.train.optimizer.learning_rate, recipe.arguments["dropout"]
    return 0.9 - 0.1 * abs(math.log10(rate) + 2.5) - 0.2 * abs(dropout - 0.3)


class Trainer:
    """Stands for ``kzoo train`` in a process: writes a run's figures, epoch after epoch, without a network."""

    def __init__(self):
        self.calls, self.failing, self.dying, self.nan, self.full = [], set(), None, set(), set()
        self.killed, self.together = {}, None

    def __call__(self, recipe: Path, out: Path, log: Path, until: int | None, share, watch) -> int | None:
        number = int(recipe.parent.name) if recipe.parent.name.isdigit() else recipe.parent.name
        done = len(Run(out).metrics()) if out.is_dir() else 0
        self.calls.append({"number": number, "until": until, "done": done, "share": share})
        wanted = kzoo.load_recipe(recipe)
        if number == self.dying:
            raise KeyboardInterrupt
        if self.together:
            self.together.wait(10)
        if self.killed.get(number, 0) > 0:
            self.killed[number] -= 1
            return -signal.SIGKILL
        if number in self.full:
            log.write_text(f"kzoo: {out}/checkpoints/last.npz cannot be written: No space left on device\n")
            return errno.ENOSPC
        if number in self.failing:
            log.write_text("Traceback ...\nkzoo: the loss is nan after epoch 2\n")
            return 1
        run = Run(out) if out.is_dir() else Run.create(wanted, wanted.digest(), out)
        write_text(run.checkpoint("last"), "")
        for epoch in range(done, until or wanted.train.epochs):
            value = self.value(wanted, epoch)
            run.append_metrics({"epoch": epoch, "val_accuracy": math.nan if number in self.nan else value})
            if watch():
                return None
        if (until or wanted.train.epochs) == wanted.train.epochs:
            value = self.value(wanted, wanted.train.epochs - 1)
            environment = {"processor": "none", "cores": 1, "versions": {"kzoo": "0"}}
            summary = {"seed": wanted.train.seed, "test": {"accuracy": value}, "environment": environment}
            summary |= {"training": {"val_accuracy": value}, "finished": "2026-01-02T03:04:05+00:00"}
            write_json(out / "summary.json", summary)
        return 0

    @staticmethod
    def value(recipe, epoch: int) -> float:
        return score(recipe) - 0.1 / (epoch + 1) + 0.001 * recipe.train.seed


def journal(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def values(folder: Path) -> list[dict]:
    return [e["values"] for e in journal(folder) if e["event"] == "start"]


def table(folder: Path) -> list[dict]:
    return list(csv.DictReader((folder / "trials.csv").read_text().splitlines()))
