"""Run to figures; run and inputs to answers."""

import glob
import inspect
from pathlib import Path
from typing import Any

from kzoo import artefacts, console
from kzoo import recipe as recipes
from kzoo.build import rebuild
from kzoo.errors import RequestError, nearest
from kzoo.files import write_json
from kzoo.quiet import import_keras
from kzoo.run import Run

# Of a folder, what is taken for an input.
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}


def evaluate(run: Run | str | Path, *, split: str = "test", **options) -> dict[str, Any]:
    """Judge a run's chosen weights on a part of its data.

    Args:
        run: A run or its folder.
        split: ``test``, ``validation`` or ``train``.
        **options: The task's own; control takes ``episodes``.

    Returns:
        The task's figures. They and their pictures are also written to ``evaluation/<split>`` in the run's folder.

    Raises:
        RequestError: The run has no checkpoint, or the data have no such part.
    """
    run = Run(run)
    weights = run.weights
    recipe = run.recipe
    recipe.check()
    import_keras()
    from kzoo import tasks
    from kzoo.weights import load_checkpoint

    task = tasks.open_task(recipe)
    for option in options:
        if option not in inspect.signature(task.evaluate).parameters:
            raise RequestError(f"a {recipe.task} run is evaluated without {option}")
    task.open()
    # Judged as it will be used: `predict` and every artefact are float32, whatever the precision of the training.
    model = task.build(dtype_policy="float32")
    load_checkpoint(weights, model)
    figures = evaluate_opened(run, task, model, split, **options)
    for note in task.notes():
        console.say(note)
    return figures


def evaluate_opened(run: Run, task, model, split: str, **options) -> dict[str, Any]:
    """Judge a model whose task has its data open already, and write the figures into the run's folder.

    Args:
        run: Where the figures go.
        task: The opened task.
        model: The model with its weights.
        split: The part of the data.
        **options: The task's own.
    """
    figures = task.evaluate(model, split, **options)
    folder = run.path / "evaluation" / split
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "figures.json", figures)
    task.draw(figures, folder)
    return figures


def predict(run: Run | str | Path, inputs, **options) -> list[dict[str, Any]]:
    """Answer raw inputs with a run's chosen weights, or with an artefact.

    Args:
        run: A run or its folder; or an artefact of `kzoo.export`: a ``.keras``, ``.h5``, ``.weights.h5``, ``.onnx`` or
            ``.tflite`` file or a SavedModel's folder.
        inputs: For images: a path, folder or glob, or a list of these, of encoded bytes, or of uint8 arrays; detection
            takes videos too. For a language model: a prompt or several.
        **options: The task's own; classification takes ``top``, detection ``score``, ``overlap``, ``limit``, ``out``,
            a folder for pictures with boxes, and ``formats`` of what is written there.

    Returns:
        One answer for each input, in order.

    Raises:
        RequestError: An input is missing or unreadable, the run has no weights, or its task has no such option.
    """
    card = _card(run)
    if recipes.of_task(card["task"]).reads_files:
        inputs = expand(inputs)
    elif isinstance(inputs, str):
        inputs = [inputs]
    model, answers = open_subject(run)
    _check_options(answers.answer, options, f"{card['task']} has no option {{name!r}} of predict")
    return answers.answer(model, inputs, **options)


def _check_options(function, options: dict[str, Any], problem: str) -> None:
    """Refuse options that a task's function does not take; one that takes any checks them itself."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    known = [n for n, p in parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in options:
        if name not in known:
            raise RequestError(problem.format(name=name) + nearest(name, known))


def tabulate(run: Run | str | Path, answers: list[dict[str, Any]]) -> list[list[str]]:
    """Answers of `predict` as a table's rows of cells, the header first."""
    from kzoo import tasks

    return tasks.open_answers(_card(run)).table(answers)


def explain(run: Run | str | Path, inputs, *, out: str | Path | None = None, **options) -> list[dict[str, Any]]:
    """Answer raw inputs and draw what decided each answer.

    Args:
        run: A run or its folder.
        inputs: As for `predict`.
        out: Folder of the pictures; the run's own ``explained`` by default.
        **options: The task's own; classification takes ``label`` and ``layer`` (Grad-CAM).

    Returns:
        One answer for each input, in order, with the path of its ``picture``.

    Raises:
        RequestError: An input is missing or unreadable, the run has no weights, or its task has no explanation or no
            such option.
    """
    run = Run(run)
    inputs = expand(inputs)
    model, answers = open_run(run)
    _check_options(answers.explain, options, f"{run.card['task']} has no option {{name!r}} of explain")
    folder = Path(out) if out is not None else run.path / "explained"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"{folder} cannot be made: {error.strerror}") from None
    return answers.explain(model, inputs, folder, **options)


def open_run(run: Run):
    """A run's model with its chosen weights, and what answers with it."""
    weights, card = run.weights, run.card
    import_keras()
    from kzoo import tasks

    return rebuild(card, weights), tasks.open_answers(card)


def open_subject(run: Run | str | Path):
    """The network of a run or of an artefact, and what answers with it."""
    if isinstance(run, Run) or not artefacts.is_artefact(run):
        return open_run(Run(run))
    import_keras()
    from kzoo import tasks

    model, card = artefacts.open_artefact(run)
    return model, tasks.open_answers(card)


def _card(run: Run | str | Path) -> dict[str, Any]:
    """What inference needs beside the network of a run or of an artefact."""
    if isinstance(run, Run) or not artefacts.is_artefact(run):
        return Run(run).card
    return artefacts.card(run)


def expand(inputs) -> list:
    """Turn paths, folders (their images) and globs into files, in order; other inputs stay as they are.

    Raises:
        RequestError: A path or glob matches nothing.
    """
    # An array is one input, not a list of its rows.
    if isinstance(inputs, str | Path | bytes) or not isinstance(inputs, list | tuple):
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
            matches = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
        else:
            matches = sorted(Path(p) for p in glob.glob(str(given), recursive=True) if Path(p).is_file())
        if not matches:
            reason = (
                f"the folder holds no {', '.join(sorted(SUFFIXES))}"
                if path.is_dir()
                else "no such file, folder or match"
            )
            raise RequestError(f"{given}: {reason}")
        found += matches
    return found
