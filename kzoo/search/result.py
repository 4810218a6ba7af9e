"""The end of a search: the winner as a recipe, and how it does when it is trained from scratch beside its parent."""

import concurrent.futures
import statistics
import threading
from pathlib import Path
from typing import Any

from kzoo import configs, console, process
from kzoo import recipe as recipes
from kzoo.errors import WorkError
from kzoo.files import read_json, write_json, write_text
from kzoo.machine import hardware, now
from kzoo.run import Run
from kzoo.search.study import Cancelled, Study

_VERSIONS = ("kzoo", "keras", "tensorflow")


def winner_path(study: Study) -> Path:
    """Where the winner is written: ``<model>/<dataset>-tuned.yaml``, as in a folder of recipes."""
    name = study.recipe.short_name.removesuffix("-tuned")
    return study.folder / study.recipe.model / f"{name}-tuned.yaml"


def write_winner(study: Study) -> Path:
    """Write the best trial as a recipe with where it came from, and the search's outcome; returns its path."""
    best, recipe, path = study.best, study.recipe, winner_path(study)
    winner = recipe.override(best["values"])
    state = read_json(study.folder / "search.json")
    retrained = state.get("retrained") or {}
    if retrained.get("digest") != winner.digest():
        retrained = {}
    outcome = {"trial": best["number"], "score": best["score"], "values": best["values"], "digest": winner.digest()}
    tuned = _provenance(study)
    write_json(
        study.folder / "search.json",
        {
            **state,
            **{k: tuned[k] for k in ("objective", "direction", "trials", "failed", "pruned", "epochs", "hours")},
            "winner": outcome,
            "retrained": retrained or None,
            "finished": now(),
        },
    )
    values = {**process.explicit(winner), "tuned": tuned}
    if retrained:
        values["results"] = [{**retrained["winner"], "parent": _brief(retrained["parent"])}]
    write_text(path, _header(study, tuned) + configs.dump(values))
    console.say(f"winner: trial {best['number']}, {study.objective} {best['score']:.4f}: {path}")
    return path


def retrain(study: Study, seeds: int, shares: list[process.Share]) -> None:
    """Train winner and parent from scratch over the same seeds; write and say what each reaches.

    Raises:
        WorkError: A training failed.
    """
    winner = recipes.load(winner_path(study))
    folder = study.folder / "retrained"
    jobs = [(name, r, seed) for seed in range(seeds) for name, r in (("winner", winner), ("parent", study.recipe))]
    runs = _train_all(folder, jobs, shares)
    found = {}
    for name in ("winner", "parent"):
        own = [run for (job, _, _), run in zip(jobs, runs, strict=True) if job == name]
        found[name] = _summarise(study, own)
        console.say(f"{name}  {_told(found[name])} over {seeds} seed{'s' if seeds > 1 else ''}")
    state = read_json(study.folder / "search.json")
    write_json(study.folder / "search.json", {**state, "retrained": {"digest": winner.digest(), **found}})
    write_winner(study)


def _provenance(study: Study) -> dict[str, Any]:
    """What the winner's recipe says about where it came from."""
    settings, best, trials = study.recipe.search, study.best, study.trials.values()
    return {
        "parent": study.recipe.name or None,
        "parent_digest": study.recipe.digest(),
        "engine": settings.engine,
        "tuner": settings.tuner,
        "pruner": settings.pruner,
        "seed": settings.seed,
        "objective": study.objective,
        "direction": study.direction,
        "trial": best["number"],
        "score": float(f"{best['score']:.6g}"),
        "trained_epochs": best["epochs"],
        "trained_seeds": settings.seeds,
        "max_trials": study.limit,
        "max_hours": settings.max_hours,
        "trials": len(trials),
        "failed": sum(t.get("status") == "failed" for t in trials),
        "pruned": sum(t.get("status") == "pruned" for t in trials),
        "epochs": _epochs(study),
        "hours": round(study.searched, 3),
        "date": now()[:10],
    }


def _epochs(study: Study) -> int:
    """Epochs that the search trained; those that a promoted trial took over from its parent count once."""
    numbers = {t["number"]: t.get("epochs", 0) * study.recipe.search.seeds for t in study.trials.values()}
    total = sum(numbers.values())
    for event in study.journal.events:
        parent = event.get("raw", {}).get("tuner/trial_id")
        if event["event"] == "start" and parent is not None:
            total -= min(numbers[event["trial"]], numbers[int(parent) + 1])
    return total


def _header(study: Study, tuned: dict[str, Any]) -> str:
    """The first lines of the winner's file, for who reads it."""
    return (
        f"# Found by `kzoo search` on {tuned['date']}: {tuned['tuner']} ({tuned['engine']}), {tuned['trials']} trials"
        f" ({tuned['failed']} failed), search seed {tuned['seed']}.\n"
        f"# Trial {tuned['trial']}: {study.objective} {tuned['score']:.6g} in {tuned['trained_epochs']} epochs;"
        " a score that was selected is optimistic.\n"
        f"# Parent: {tuned['parent'] or 'a recipe made in Python'}, digest {tuned['parent_digest']}.\n"
    )


def _train_all(folder: Path, jobs: list[tuple], shares: list[process.Share]) -> list[Run]:
    """Train each (name, recipe, seed), as many at once as there are shares; returns their runs in order."""
    free, cancelled = list(shares), threading.Event()

    def train(job) -> Run:
        share = free.pop()
        try:
            return _train_seed(folder, *job, share, cancelled)
        finally:
            free.append(share)

    with concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
        futures = [pool.submit(train, job) for job in jobs]
        try:
            return [future.result() for future in futures]
        finally:
            cancelled.set()
            for future in futures:
                future.cancel()


def _train_seed(
    folder: Path, name: str, recipe: recipes.Recipe, seed: int, share: process.Share, cancelled: threading.Event
) -> Run:
    """Train a recipe from scratch with a seed, or go on with that training."""

    def watch() -> bool:
        if cancelled.is_set():
            raise Cancelled
        return False

    # The digest keeps a re-training of an earlier winner apart, when the search was given more trials.
    own = folder / f"{name}-{recipe.digest()[:8]}-s{seed}"
    if not (own / "run" / "summary.json").is_file():
        ending = process.train(own, recipe.override({"train.seed": seed}), share=share, watch=watch)
        if ending.reason:
            raise WorkError(f"re-training the {name} with seed {seed} failed: {ending.reason} (log: {own}/log.txt)")
    return Run(own / "run")


def _summarise(study: Study, runs: list[Run]) -> dict[str, Any]:
    """Mean and standard deviation of a figure over seeds: of the test part, or of validation where there is none."""
    summaries = [run.summary for run in runs]
    figure = study.objective.removeprefix("val_")
    metric, values = f"test {figure}", [(s.get("test") or {}).get(figure) for s in summaries]
    if None in values:
        metric = study.recipe.train.monitor or study.objective
        values = [s["training"].get(metric) for s in summaries]
    if None in values:
        raise WorkError(f"the trainings report neither test {figure} nor {metric}; see their summary.json")
    known = summaries[-1]["environment"]
    return {
        "metric": metric,
        "mean": round(statistics.fmean(values), 5),
        "std": round(statistics.stdev(values), 5) if len(values) > 1 else None,
        "values": [round(v, 5) for v in values],
        "seeds": [s["seed"] for s in summaries],
        "minutes": round(statistics.fmean(s["training"].get("seconds", 0.0) for s in summaries) / 60, 2),
        "hardware": hardware(known),
        "versions": {k: known["versions"][k] for k in _VERSIONS if k in known["versions"]},
        "date": max(s["finished"] for s in summaries)[:10],
        "command": f"kzoo search {study.recipe.name or 'RECIPE'} --retrain {len(values)}",
    }


def _brief(result: dict[str, Any]) -> dict[str, Any]:
    return {k: result[k] for k in ("mean", "std", "values", "seeds")}


def _told(result: dict[str, Any]) -> str:
    spread = f" +- {result['std']:.4f}" if result["std"] is not None else ""
    return f"{result['metric']} {result['mean']:.4f}{spread}"
