"""What a search shows of its trials while it works: a line for each, a moving table on a terminal, ``trials.csv``."""

import csv
import io
import json
import time
from typing import Any

from kzoo import console
from kzoo.files import write_text
from kzoo.search.engine import Proposal
from kzoo.search.space import combinations

_FACTS = ("number", "status", "score", "epochs", "seconds")


class Progress:
    """Shows a study; a context in which a moving table is on the screen, where there is one."""

    def __init__(self, study, workers: int):
        self.study, self.workers = study, workers
        self.began: dict[int, float] = {}
        # Values of the objective of trials under way, as the workers see them.
        self.curves: dict[int, tuple[float, ...]] = {}
        self._live = None

    def __enter__(self):
        if console.live():
            from rich.console import Console
            from rich.live import Live

            # Choices are the recipe's words, with nothing to be read into them.
            screen = Console(stderr=True, emoji=False, markup=False, highlight=False)
            self._live = Live(console=screen, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_):
        if self._live:
            self._live.stop()
            self._live = None

    def begin(self, proposal: Proposal) -> None:
        """A trial has begun."""
        self.began[proposal.number] = time.monotonic()

    def end(self, proposal: Proposal) -> None:
        """One line on a trial that has ended."""
        self.began.pop(proposal.number, None)
        self.curves.pop(proposal.number, None)
        line = self._line(proposal.number)
        if self._live:
            self._live.console.print(line, soft_wrap=True)
        else:
            console.say(line)

    def show(self) -> None:
        """Move the table."""
        if self._live:
            self._live.update(self._table(), refresh=True)

    @staticmethod
    def write_table(study) -> None:
        """Write ``trials.csv``."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        keys = list(study.recipe.search.space)
        writer.writerow([*_FACTS, *keys, "reason"])
        for trial in study.trials.values():
            known = {"status": "running", **trial}
            cells = [_cell(trial["values"][k]) if k in trial["values"] else "" for k in keys]
            writer.writerow([*(known.get(f) for f in _FACTS), *cells, known.get("reason", "")])
        write_text(study.folder / "trials.csv", text.getvalue())

    def _line(self, number: int) -> str:
        study = self.study
        trial, best = study.trials[number], study.best
        told = f"{study.objective} {trial['score']:.4f}" if trial["score"] is not None else ""
        if trial["status"] != "completed":
            told = f"{trial['status']}: {trial['reason'] or told}"
        leader = f"best {best['score']:.4f} (trial {best['number']})" if best else "no best yet"
        values = "  ".join(f"{short_key(k, trial['values'])} {v}" for k, v in trial["values"].items())
        of = f"/{study.limit}" if study.limit else ""
        return f"trial {number}{of}  {told}  {leader}  {values}  {trial['epochs']} epochs  {trial['seconds']:.0f} s"

    def _table(self):
        """The trials under way and the best ones."""
        from rich.table import Table

        study = self.study
        keys = list(study.recipe.search.space)
        table = Table(box=None, pad_edge=False, title=self._headline(), title_justify="left", title_style="")
        for name in ("trial", "state", study.objective, "epochs", "time", *(short_key(k, keys) for k in keys)):
            table.add_column(name, overflow="fold")
        for trial in self._shown():
            number = trial["number"]
            curve = self.curves.get(number, ())
            seconds = trial.get("seconds", time.monotonic() - self.began.get(number, time.monotonic()))
            score = trial.get(
                "score", max(curve, default=None) if study.direction == "max" else min(curve, default=None)
            )
            cells = [number, trial.get("status", "running"), "" if score is None else f"{score:.4f}"]
            cells += [trial.get("epochs", len(curve)), clock(seconds)]
            cells += [_cell(trial["values"][k]) if k in trial["values"] else "-" for k in keys]
            style = "bold" if trial is study.best else "" if "status" in trial else "dim"
            table.add_row(*map(str, cells), style=style)
        return table

    def _shown(self, count: int = 10) -> list[dict]:
        """Trials under way after the best that have ended."""
        study = self.study
        sign = 1 if study.direction == "max" else -1
        done = [t for t in study.trials.values() if t.get("status") in ("completed", "pruned")]
        best = sorted(done, key=lambda t: -sign * t["score"])[:count]
        return best + [study.trials[n] for n in sorted(self.began)]

    def _headline(self) -> str:
        study, left = self.study, time_left(self.study, self.workers)
        ended = [t for t in study.trials.values() if "status" in t]
        failed, pruned = (sum(t["status"] == s for t in ended) for s in ("failed", "pruned"))
        of = f" of {study.limit}" if study.limit else ""
        parts = [
            f"{len(ended)}{of} trials",
            f"{failed} failed",
            f"{pruned} pruned",
            f"{clock(study.hours * 3600)} so far",
        ]
        return ", ".join(parts + ([f"about {clock(left)} left"] if left is not None else []))


def time_left(study, workers: int) -> float | None:
    """Seconds until the budget is used up, by the mean duration of a trial; None before one has ended."""
    limit = study.limit if study.limit is not None else combinations(study.recipe.search.space)
    known = [t["seconds"] for t in study.trials.values() if t.get("seconds")]
    found = []
    if study.recipe.search.max_hours is not None:
        found.append(max(0.0, study.recipe.search.max_hours - study.hours) * 3600)
    if limit is not None and known:
        ended = sum("status" in t for t in study.trials.values())
        found.append(max(0, limit - ended) * sum(known) / len(known) / workers)
    return min(found, default=None)


def clock(seconds: float) -> str:
    """A duration as people read it: 42 s, 3:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def short_key(key: str, keys) -> str:
    """A dotted key's last part where that is enough to tell it from the others."""
    last = key.rpartition(".")[2]
    return last if sum(k.rpartition(".")[2] == last for k in keys) == 1 else key


def _cell(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
