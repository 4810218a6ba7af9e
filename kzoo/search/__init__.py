"""Recipe to better recipe: a search over dotted recipe keys, each trial a training in a process of its own.

A search's folder holds ``search.json`` (what is searched, and what came out), ``journal.jsonl`` (what the engine was
asked and told, in order), ``trials.csv`` and ``search.html`` (the same for people), ``tensorboard/`` (for its HParams
page), ``trials/<number>/`` with ``recipe.yaml``, ``log.txt`` and ``run/``, and the winner,
``<model>/<dataset>-tuned.yaml``. Every file is written atomically and the journal is the
only state: a search that was killed plays it back to a new engine, whose next proposal is then the one that would have
come, and the trials that were under way go on from their runs' checkpoints.
"""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kzoo import recipe as recipes
from kzoo.errors import DiskFull, RequestError, disk_is_full, first_line
from kzoo.files import lock
from kzoo.search import address, journal, space


def search(
    recipe: recipes.Recipe | str | Path,
    *,
    out: str | Path | None = None,
    workers: int = 1,
    resume: bool | None = None,
    retrain: int = 0,
    chief: str | None = None,
    ray: str | None = None,
) -> recipes.Recipe:
    """Look for a better recipe over the recipe's ``search.space``.

    Args:
        recipe: The parent: a recipe, or its name or path.
        out: The search's folder; default ``searches/<model>/<recipe>/<time>``. A search of the same recipe that it
            holds is gone on with; more ``search.max_trials`` or ``search.max_hours`` than before adds trials.
        workers: Trials at once on this machine; its cores and GPUs are divided among them.
        resume: Whether there must be a search to go on with, by default the newest of this recipe; False where there
            may be none; None where `out` may hold one.
        retrain: Train the winner and the parent from scratch over this many seeds each, and compare their figures.
        chief: ``HOST:PORT`` to give the trials out at, to workers on other machines (see `join`), in place of training
            them here. Nothing protects the port: it belongs on a network whose machines are trusted.
        ray: The Ray cluster to train the trials on: ``auto`` for the one that this machine belongs to, ``local`` for
            one of this machine alone, or its HOST:PORT. `workers` is then the number of trials at once on the cluster.

    Returns:
        The winner, loaded from the recipe file that the folder now holds.

    Raises:
        RequestError: The recipe has no usable search space, `out` is taken, there are more workers than cores, or the
            chief cannot listen at its address.
        WorkError: The first trials all failed, no trial succeeded, or a re-training failed.
        DiskFull: There is no room left; what was under way is gone on with once there is.
    """
    from kzoo.search import cluster, page, result
    from kzoo.search.shares import share_out
    from kzoo.search.study import Study, goal, work

    if chief and ray:
        raise RequestError("a search has a chief of its own on a Ray cluster; leave out one of the two")
    if ray:
        cluster.check()
    if chief and workers > 1:
        raise RequestError("a chief trains no trials itself; give its workers their number")
    listen = address.parse(chief) if chief else None
    recipe = recipe if isinstance(recipe, recipes.Recipe) else recipes.load(recipe)
    shares = share_out(1 if ray else workers)
    if retrain < 0:
        raise RequestError(f"retrain is {retrain}: it takes a number of seeds, 0 for none")
    space.check(recipe)
    if listen:
        address.check_free(listen)
    folder = journal.open_folder(recipe, goal(recipe), Path(out) if out else None, resume)
    with lock(folder, "searching"), _told_when_full(folder, "--resume"):
        study = Study(folder, recipe)
        study.play_back()
        if ray:
            from kzoo.search.chief import direct

            with cluster.workers(recipe, workers, ray) as (listen, check):
                direct(study, listen, check)
        elif listen:
            from kzoo.search.chief import direct

            direct(study, listen)
        else:
            work(study, shares)
        path = result.write_winner(study)
        if retrain:
            result.retrain(study, retrain, shares)
        page.write(folder)
    return recipes.load(path)


def join(recipe: recipes.Recipe | str | Path, chief: str, *, out: str | Path | None = None, workers: int = 1) -> int:
    """Train trials for a search that a chief on another machine directs, until it has no more.

    Args:
        recipe: The chief's recipe, which this machine must have too.
        chief: ``HOST:PORT`` of the chief.
        out: Folder for the trials; default ``searches/<model>/<recipe>/worker-<search>-<number>``. A worker that is
            started again there goes on with the trials that it had.
        workers: Trials at once on this machine; its cores and GPUs are divided among them.

    Returns:
        Number of trials that were trained.

    Raises:
        RequestError: No chief answers, it has another recipe, search space or version of kzoo, or `out` is taken.
        WorkError: The chief has not answered for ten minutes.
        DiskFull: There is no room left here; the chief gives the trials that were under way to other workers.
    """
    from kzoo.search.shares import share_out
    from kzoo.search.study import goal

    address.parse(chief)
    recipe = recipe if isinstance(recipe, recipes.Recipe) else recipes.load(recipe)
    space.check(recipe)
    shares, aim = share_out(workers), goal(recipe)
    from kzoo.search.worker import Link, Worker, workplace

    search = Link(recipe, chief).search()
    with workplace(recipe, search, Path(out) if out else None) as folder, _told_when_full(folder, f"--worker {chief}"):
        worker = Worker(recipe, aim, chief, folder)
        worker.work(shares)
    return worker.trained


@contextlib.contextmanager
def _told_when_full(folder: Path, again: str) -> Iterator[None]:
    """Say of a full disk how much room there is and how to go on; every trial to come would fail of it."""
    try:
        yield
    except (DiskFull, OSError) as error:
        if not disk_is_full(error):
            raise
        free = shutil.disk_usage(folder).free / 1e6
        raise DiskFull(
            f"the disk is full: {first_line(error)}; {free:,.1f} MB are left for {folder}: make room, and go on with "
            f"{again} --out {folder}"
        ) from error


def dry_run(recipe: recipes.Recipe | str | Path) -> dict[str, Any]:
    """Describe what `search` would do, without training.

    Returns:
        ``space`` (plain values), ``combinations`` (None for a continuous space), ``engine``, ``tuner``, ``max_trials``
        (None for no limit), ``max_hours``, ``sweep`` (trials of one sweep of hyperband, else None), ``objective``,
        ``direction`` and ``samples``, the first three proposals.
    """
    from kzoo.search.engine import Outcome, open_engine, trial_limit
    from kzoo.search.study import goal

    recipe = recipe if isinstance(recipe, recipes.Recipe) else recipes.load(recipe)
    space.check(recipe)
    objective, direction = goal(recipe)
    settings = recipe.search
    engine = open_engine(settings, recipe.train.epochs, objective, direction)
    limit, asked = trial_limit(settings, engine), []
    while len(asked) < min(3, limit or 3) and (proposal := engine.ask()):
        # A grid may wait for a result before it goes on; this one teaches the engine nothing.
        engine.tell(proposal.number, Outcome("failed"))
        asked.append(proposal)
    return {
        "space": settings.model_dump(mode="json", exclude_unset=True)["space"],
        "combinations": space.combinations(settings.space),
        "engine": settings.engine,
        "tuner": settings.tuner,
        "max_trials": limit,
        "max_hours": settings.max_hours,
        "sweep": engine.sweep,
        "objective": objective,
        "direction": direction,
        "samples": [p.values for p in asked],
    }
