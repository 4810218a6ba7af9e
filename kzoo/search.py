"""Recipe to better recipe: Keras Tuner over dotted recipe keys, each trial a training in a process of its own.

A search's folder holds ``search.json`` (what is searched, and what came out), ``journal.jsonl`` (what the tuner was
asked and told, in order), ``trials.csv`` (the same for people), ``trials/<number>/`` with ``recipe.yaml``, ``log.txt``
and ``run/``, and the winner, ``<dataset>-tuned.yaml``. Every file is written atomically and the journal is the only
state: a search that was killed plays it back to a new tuner, whose next proposal is then the one that would have come,
and the trial that was under way goes on from its run's checkpoint.
"""

import contextlib
import csv
import datetime
import fcntl
import importlib
import io
import json
import math
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kzoo import configs, console, process
from kzoo import recipe as recipes
from kzoo.errors import RequestError, WorkError, nearest
from kzoo.quiet import import_keras
from kzoo.run import Run, environment, now, read_json, write_json, write_text

_HOPELESS = 5  # a search whose first trials all failed gives up after this many
_FORM = "search: {space: {train.optimizer.learning_rate: {min: 1e-4, max: 1e-2, log: true}}}"


def search(
    recipe: recipes.Recipe | str | Path,
    *,
    out: str | Path | None = None,
    workers: int = 1,
    resume: bool = True,
    retrain: int = 0,
) -> recipes.Recipe:
    """Look for a better recipe over the recipe's ``search.space``.

    Args:
        recipe: The parent: a recipe, or its name or path.
        out: The search's folder; default ``searches/<model>/<recipe>/<time>``. A search of the same recipe that it
            holds is gone on with; more ``search.max_trials`` than before adds trials.
        workers: Trials at once; only 1 for now.
        resume: Whether a search in `out` may be gone on with.
        retrain: Train the winner and the parent from scratch over this many seeds each, and compare their figures.

    Returns:
        The winner, loaded from the recipe file that the folder now holds.

    Raises:
        RequestError: The recipe has no usable search space, or `out` is taken.
        WorkError: The first trials all failed, no trial succeeded, or a re-training failed.
    """
    recipe = recipe if isinstance(recipe, recipes.Recipe) else recipes.load(recipe)
    if workers != 1:
        raise RequestError(
            f"workers is {workers}: this version runs one trial at a time; several come with a later one"
        )
    if retrain < 0:
        raise RequestError(f"retrain is {retrain}: it takes a number of seeds, 0 for none")
    _check(recipe)
    folder = _open(recipe, Path(out) if out else _default_folder(recipe), resume)
    with _lock(folder):
        study = _Study(folder, recipe)
        study.play_back()
        study.work()
        _write_winner(study)
        if retrain:
            _retrain(study, retrain)
    return recipes.load(study.winner_path)


def dry_run(recipe: recipes.Recipe | str | Path) -> dict[str, Any]:
    """Describe what `search` would do, without training.

    Returns:
        ``space`` (plain values), ``combinations`` (None for a continuous space), ``max_trials``, ``sweep`` (trials of
        one sweep of hyperband, else None), ``objective``, ``direction`` and ``samples``, the first three proposals.
    """
    recipe = recipe if isinstance(recipe, recipes.Recipe) else recipes.load(recipe)
    _check(recipe)
    objective, direction = _goal(recipe)
    from kzoo.tuner import Tuner, combinations

    tuner = Tuner(recipe.search, recipe.train.epochs, objective, direction)
    asked = []
    while len(asked) < min(3, recipe.search.max_trials) and (proposal := tuner.ask()):
        # A grid waits for a result before it goes on; this one teaches the tuner nothing.
        tuner.tell(proposal.number, None)
        asked.append(proposal)
    return {
        "space": recipe.search.model_dump(mode="json", exclude_unset=True)["space"],
        "combinations": combinations(recipe.search.space),
        "max_trials": recipe.search.max_trials,
        "sweep": tuner.sweep,
        "objective": objective,
        "direction": direction,
        "samples": [p.values for p in asked],
    }


class _Study:
    """One search under way.

    Attributes:
        folder: The search's folder.
        recipe: The parent.
        objective: The figure to improve, and its `direction`.
        trials: What is known of each trial by its number: values, and once it has ended status, score, epochs, seconds.
    """

    def __init__(self, folder: Path, recipe: recipes.Recipe):
        self.folder, self.recipe = folder, recipe
        self.objective, self.direction = _goal(recipe)
        self.trials: dict[int, dict] = {}
        self.events: list[dict] = []
        self.pending = None
        from kzoo.tuner import Tuner

        self.tuner = Tuner(recipe.search, recipe.train.epochs, self.objective, self.direction)

    @property
    def winner_path(self) -> Path:
        """Where the winner is written."""
        return self.folder / f"{_short_name(self.recipe)}-tuned.yaml"

    @property
    def best(self) -> dict | None:
        """The best completed trial, the first of equals."""
        done = [t for t in self.trials.values() if t.get("status") == "completed"]
        sign = 1 if self.direction == "max" else -1
        return max(done, key=lambda t: sign * t["score"], default=None)

    @property
    def hopeless(self) -> bool:
        """Whether enough trials have ended, and all of them failed."""
        ended = sum("status" in t for t in self.trials.values())
        return self.best is None and ended >= min(_HOPELESS, self.recipe.search.max_trials)

    def play_back(self) -> None:
        """Bring a new tuner to where the journal ends; `pending` is then the trial that was under way, if any."""
        path = self.folder / "journal.jsonl"
        self.events = [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.is_file() else []
        for event in self.events:
            self._remember(event)
        if self.hopeless:
            # Whoever comes back after that has mended what made every trial fail.
            console.say("no trial has succeeded so far: starting them again")
            self.events, self.trials = [], {}
        for event in self.events:
            if event["event"] == "start":
                self.pending = self.tuner.ask(event["raw"])
            else:
                self.tuner.tell(event["trial"], event["score"])
                self.pending = None
        if self.trials:
            # A kill may have come between the journal and the table.
            self._write_table()
            console.say(f"going on after {len(self.trials) - bool(self.pending)} trials: {self.folder}")

    def work(self) -> None:
        """Run trials until there were enough or the space is exhausted.

        Raises:
            WorkError: The first trials all failed, or none succeeded.
        """
        while self.pending or len(self.trials) < self.recipe.search.max_trials:
            proposal = self.pending or self.tuner.ask()
            if proposal is None:
                console.say(f"the space is exhausted after {len(self.trials)} trials")
                break
            if not self.pending:
                self._note(event="start", trial=proposal.number, values=proposal.values, raw=proposal.raw)
            outcome = self._try(proposal)
            self._note(event="end", trial=proposal.number, **outcome)
            self.tuner.tell(proposal.number, outcome["score"])
            self.pending = None
            self._say(proposal.number)
            if self.hopeless:
                break
        if self.best is None:
            last = next((t for t in reversed(self.trials.values()) if "reason" in t), {"reason": "none could start"})
            where = self.folder / "trials"
            raise WorkError(f"no trial succeeded; the last: {last['reason']} (logs: {where}/*/log.txt)")

    def _note(self, **event) -> None:
        """Write an event to the journal and the table."""
        self.events.append(event)
        self._remember(event)
        write_text(self.folder / "journal.jsonl", "".join(json.dumps(e) + "\n" for e in self.events))
        self._write_table()

    def _write_table(self) -> None:
        write_text(self.folder / "trials.csv", _table(self.trials, list(self.recipe.search.space)))

    def _remember(self, event: dict) -> None:
        facts = {k: v for k, v in event.items() if k not in ("event", "trial", "raw")}
        self.trials.setdefault(event["trial"], {"number": event["trial"]}).update(facts)

    def _try(self, proposal) -> dict:
        """Train one trial and judge it: status, score, epochs, seconds, and the reason of a failure."""
        began, score, epochs, reason = time.monotonic(), None, 0, ""
        try:
            recipe = self.recipe.override(proposal.values)
        except RequestError as error:
            reason = str(error)
        else:
            scores = []
            for number in range(self.recipe.search.seeds):
                seeded = recipe.override({"train.seed": recipe.train.seed + number}) if number else recipe
                score, epochs, reason = self._train(proposal, seeded)
                if reason:
                    break
                scores.append(score)
            score = None if reason else statistics.median(scores)
        status = "failed" if reason else "completed"
        seconds = round(time.monotonic() - began, 1)
        return {"status": status, "score": score, "epochs": epochs, "seconds": seconds, "reason": reason}

    def _train(self, proposal, recipe: recipes.Recipe) -> tuple[float | None, int, str]:
        """Train one of a trial's seeds: its score, number of epochs, and the reason of a failure."""
        folder = self._folder(proposal.number, recipe.train.seed)
        if proposal.parent is not None:
            process.inherit(self._folder(proposal.parent, recipe.train.seed) / "run", folder / "run")
        # A seed that was finished before a kill is only judged again.
        reason = process.train(folder, recipe, proposal.until)
        return (None, 0, reason) if reason else self._judge(Run(folder / "run"))

    def _judge(self, run: Run) -> tuple[float | None, int, str]:
        """Best value of the objective, number of epochs, and what is wrong with it."""
        rows = run.metrics()
        figures = [k for k in (rows[0] if rows else {}) if k not in ("epoch", "seconds")]
        if self.objective not in figures:
            hint = nearest(self.objective, figures)
            raise RequestError(f"search.objective {self.objective!r} is not among the figures of an epoch{hint}")
        values = [float(row[self.objective] or "nan") for row in rows]
        if not all(math.isfinite(v) for v in values):
            return None, len(rows), f"{self.objective} is not a finite number"
        return (max if self.direction == "max" else min)(values), len(rows), ""

    def _folder(self, number: int, seed: int) -> Path:
        """Folder of a trial; of each of its seeds where it has several."""
        trial = self.folder / "trials" / f"{number:04d}"
        return trial if self.recipe.search.seeds == 1 else trial / f"s{seed}"

    def _say(self, number: int) -> None:
        """One line on a trial that has ended."""
        trial, best = self.trials[number], self.best
        told = f"{self.objective} {trial['score']:.4f}" if trial["score"] is not None else f"failed: {trial['reason']}"
        leader = f"best {best['score']:.4f} (trial {best['number']})" if best else "no best yet"
        values = "  ".join(f"{_last(k, trial['values'])} {v}" for k, v in trial["values"].items())
        place = f"trial {number}/{self.recipe.search.max_trials}"
        console.say(f"{place}  {told}  {leader}  {values}  {trial['epochs']} epochs  {trial['seconds']:.0f} s")


def _check(recipe: recipes.Recipe) -> None:
    """Refuse a search that cannot work, before anything slow: every end of every range must be a valid override."""
    settings = recipe.search
    if not settings.space:
        raise RequestError(f"{recipe.name or 'the recipe'} has no search.space; its form is {_FORM}")
    if settings.tuner == "hyperband":
        if "train.epochs" in settings.space:
            raise RequestError("search.space: hyperband sets the epochs itself; take train.epochs out of the space")
        if settings.min_epochs > recipe.train.epochs:
            raise RequestError(
                f"search.min_epochs is {settings.min_epochs}, more than the {recipe.train.epochs} of train.epochs"
            )
    for key, parameter in settings.space.items():
        if parameter.step is not None and parameter.step <= (1 if parameter.log else 0):
            least = "1, a factor, because it is logarithmic" if parameter.log else "0"
            raise RequestError(f"search.space: the step of {key} must be above {least}")
        for value in parameter.choices if parameter.choices is not None else (parameter.min, parameter.max):
            recipe.override({key: value})
    # The objective is what each trial monitors, so what holds for one holds for the other.
    recipe.override({"train.monitor": settings.objective or recipe.train.monitor}).check()


def _goal(recipe: recipes.Recipe) -> tuple[str, str]:
    """The figure to improve, and whether to its ``max`` or ``min``."""
    import_keras()
    from kzoo.tasks.callbacks import higher_is_better

    task = importlib.import_module(f"kzoo.tasks.{recipe.task}.task").Task
    objective = recipe.search.objective or recipe.train.monitor or task.default_monitor
    return objective, recipe.search.direction or ("max" if higher_is_better(objective) else "min")


def _default_folder(recipe: recipes.Recipe) -> Path:
    stem = f"{datetime.datetime.now():%Y%m%d-%H%M%S}"
    base, number = Path("searches") / recipe.model / _short_name(recipe), 1
    while (base / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return base / (stem if number == 1 else f"{stem}-{number}")


def _short_name(recipe: recipes.Recipe) -> str:
    return recipe.name.rpartition("/")[2] or "custom"


def _open(recipe: recipes.Recipe, folder: Path, resume: bool) -> Path:
    """Make the search's folder, or see that it holds a search of the same recipe."""
    request = {
        "parent": recipe.name,
        "digest": recipe.digest(),
        # The number of trials may change, so that a finished search can be given more.
        "search": recipe.search.model_dump(mode="json", exclude={"max_trials"}),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"the search folder {folder} cannot be made: {error.strerror}") from None
    found = read_json(folder / "search.json")
    if found is None:
        # A kill before the first file was whole leaves only hidden ones.
        if any(not p.name.startswith(".") for p in folder.iterdir()):
            raise RequestError(f"{folder} is not empty and holds no search; name another --out")
        write_json(folder / "search.json", {**request, "created": now(), "environment": environment()})
        console.say(f"{recipe.search.tuner} search over {', '.join(recipe.search.space)}: {folder}")
    elif not resume:
        raise RequestError(f"{folder} holds a search already; name another --out")
    elif any(found.get(k) != request[k] for k in ("digest", "search")):
        raise RequestError(f"{folder} holds a search of another recipe or space; name another --out")
    return folder


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RequestError(f"another process is searching in {folder}") from None
        yield


def _write_winner(study: _Study) -> None:
    """Write the best trial as a recipe with where it came from, and the search's outcome."""
    best, recipe = study.best, study.recipe
    winner = recipe.override(best["values"])
    state = read_json(study.folder / "search.json")
    retrained = state.get("retrained") or {}
    if retrained.get("digest") != winner.digest():
        retrained = {}
    outcome = {"trial": best["number"], "score": best["score"], "values": best["values"], "digest": winner.digest()}
    goal = {"objective": study.objective, "direction": study.direction}
    finished = {"winner": outcome, "retrained": retrained or None, "finished": now()}
    write_json(study.folder / "search.json", {**state, **goal, "trials": len(study.trials), **finished})
    failed = sum(t.get("status") == "failed" for t in study.trials.values())
    header = (
        f"# Found by `kzoo search` on {now()[:10]}: {recipe.search.tuner}, {len(study.trials)} trials"
        f" ({failed} failed), search seed {recipe.search.seed}.\n"
        f"# Trial {best['number']}: {study.objective} {best['score']:.6g} in {best['epochs']} epochs,"
        f" training seed {winner.train.seed}; a score that was selected is optimistic.\n"
        f"# Parent: {recipe.name or 'a recipe made in Python'}, digest {recipe.digest()}.\n"
    )
    values = process.explicit(winner)
    if retrained:
        values["results"] = [retrained["winner"]]
    write_text(study.winner_path, header + configs.dump(values))
    console.say(f"winner: trial {best['number']}, {study.objective} {best['score']:.4f}: {study.winner_path}")


def _retrain(study: _Study, seeds: int) -> None:
    """Train winner and parent from scratch over the same seeds; write and say what each reaches."""
    winner = recipes.load(study.winner_path)
    found = {}
    for name, recipe in (("winner", winner), ("parent", study.recipe)):
        runs = [_train_seed(study.folder / "retrained", name, recipe, seed) for seed in range(seeds)]
        found[name] = _summarise(study, [run.summary for run in runs])
        spread = f" +- {found[name]['std']:.4f}" if found[name]["std"] is not None else ""
        console.say(f"{name}  {found[name]['metric']} {found[name]['mean']:.4f}{spread} over {seeds} seeds")
    state = read_json(study.folder / "search.json")
    write_json(study.folder / "search.json", {**state, "retrained": {"digest": winner.digest(), **found}})
    _write_winner(study)


def _train_seed(folder: Path, name: str, recipe: recipes.Recipe, seed: int) -> Run:
    """Train a recipe from scratch with a seed, or go on with that training."""
    seeded = recipe.override({"train.seed": seed})
    # The digest keeps a re-training of an earlier winner apart, when the search was given more trials.
    folder = folder / f"{name}-{recipe.digest()[:8]}-s{seed}"
    finished = (folder / "run" / "summary.json").is_file()
    reason = "" if finished else process.train(folder, seeded)
    if reason:
        raise WorkError(f"re-training the {name} with seed {seed} failed: {reason} (log: {folder}/log.txt)")
    return Run(folder / "run")


def _summarise(study: _Study, summaries: list[dict]) -> dict[str, Any]:
    """Mean and standard deviation of a figure over seeds: of the test part, or of validation where there is none."""
    figure = study.objective.removeprefix("val_")
    metric, values = f"test_{figure}", [(s.get("test") or {}).get(figure) for s in summaries]
    if None in values:
        metric = study.recipe.train.monitor or study.objective
        values = [s["training"].get(metric) for s in summaries]
    if None in values:
        raise WorkError(f"the trainings report neither test {figure} nor {metric}; see their summary.json")
    known = summaries[-1]["environment"]
    return {
        "metric": metric,
        "mean": round(statistics.fmean(values), 6),
        "std": round(statistics.stdev(values), 6) if len(values) > 1 else None,
        "seeds": [s["seed"] for s in summaries],
        "values": values,
        "hardware": f"{known['processor']}, {known['cores']} cores",
        "versions": known["versions"],
        "date": now()[:10],
    }


def _table(trials: dict[int, dict], keys: list[str]) -> str:
    """The trials as CSV."""
    text = io.StringIO()
    facts = ["number", "status", "score", "epochs", "seconds"]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*facts, *keys, "reason"])
    for trial in trials.values():
        known = {"status": "running", **trial}
        values = [v if isinstance(v, str) else json.dumps(v) for v in (trial["values"][k] for k in keys)]
        writer.writerow([*(known.get(f) for f in facts), *values, known.get("reason", "")])
    return text.getvalue()


def _last(key: str, keys) -> str:
    """A dotted key's last part where that is enough to tell it from the others."""
    last = key.rpartition(".")[2]
    return last if sum(k.rpartition(".")[2] == last for k in keys) == 1 else key
