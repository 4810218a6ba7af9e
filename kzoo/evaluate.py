"""Run to figures; run and inputs to answers."""

import glob
from pathlib import Path
from typing import Any

from kzoo.build import build
from kzoo.errors import RequestError
from kzoo.quiet import import_keras
from kzoo.run import Run, write_json


def evaluate(run: Run | str | Path, *, split: str = "test") -> dict[str, Any]:
    """Judge a run's chosen weights on a part of its data.

    Args:
        run: A run or its folder.
        split: ``test``, ``validation`` or ``train``.

    Returns:
        The task's figures. They and their pictures are also written to ``evaluation/<split>`` in the run's folder.

    Raises:
        RequestError: The run has no checkpoint, or the data have no such part.
    """
    run = run if isinstance(run, Run) else Run(run)
    weights = run.weights
    import_keras()
    from kzoo import tasks
    from kzoo.weights import load_checkpoint

    task = tasks.open_task(run.recipe)
    task.open()
    model = task.build()
    load_checkpoint(weights, model)
    return evaluate_opened(run, task, model, split)


def evaluate_opened(run: Run, task, model, split: str, *, optional: bool = False) -> dict[str, Any] | None:
    """Judge a model whose task has its data open already, and write the figures into the run's folder.

    Args:
        run: Where the figures go.
        task: The opened task.
        model: The model with its weights.
        split: The part of the data.
        optional: Return None where the data have no such part, instead of raising.
    """
    try:
        figures = task.evaluate(model, split)
    except RequestError:
        if optional:
            return None
        raise
    folder = run.path / "evaluation" / split
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "figures.json", figures)
    task.draw(figures, folder)
    return figures


def predict(run: Run | str | Path, inputs, **options) -> list[dict[str, Any]]:
    """Answer raw inputs with a run's chosen weights.

    Args:
        run: A run or its folder.
        inputs: For images: a path, folder or glob, or a list of these, of encoded bytes, or of uint8 arrays.
        **options: The task's own; classification takes ``top``.

    Returns:
        One answer for each input, in order.

    Raises:
        RequestError: An input is missing or unreadable, or the run has no weights.
    """
    run = run if isinstance(run, Run) else Run(run)
    inputs = expand(inputs)
    weights, card = run.weights, run.card
    import_keras()
    from kzoo import tasks

    model = build(card["model"], weights=weights, **card["arguments"])
    return tasks.open_answers(card).answer(model, inputs, **options)


def expand(inputs) -> list:
    """Turn paths, folders and globs into files, in order; other inputs stay as they are.

    Raises:
        RequestError: A path or glob matches nothing.
    """
    if isinstance(inputs, str | Path | bytes) or not hasattr(inputs, "__iter__"):
        inputs = [inputs]
    found: list = []
    for given in inputs:
        if not isinstance(given, str | Path):
            found.append(given)
            continue
        path = Path(given)
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        else:
            matches = sorted(Path(p) for p in glob.glob(str(given), recursive=True) if Path(p).is_file())
        if not matches:
            raise RequestError(f"{given}: there is no such file, folder or match")
        found += matches
    return found
