"""Recipe to run."""

from pathlib import Path

from kzoo import console
from kzoo import recipe as recipes
from kzoo.allocator import keep_freed_memory
from kzoo.build import is_tag, portable, with_arguments_of
from kzoo.errors import RequestError
from kzoo.evaluate import evaluate_opened
from kzoo.files import atomic, write_json
from kzoo.machine import environment, now
from kzoo.quiet import import_keras
from kzoo.report import report
from kzoo.run import Run


def train(
    recipe: recipes.Recipe | str | Path,
    *,
    out: str | Path | None = None,
    resume: bool = True,
    until: int | None = None,
) -> Run:
    """Train a recipe to its end.

    Args:
        recipe: A recipe, or its name or path.
        out: The run's folder. One that holds an unfinished run of the same recipe is gone on with; see `resume`.
        resume: Whether an unfinished run in `out` may be gone on with.
        until: Stop after this many epochs in all and leave the run to be gone on with; its learning-rate schedule stays
            that of the whole recipe.

    Returns:
        The run, finished unless `until` came first.

    Raises:
        RequestError: The recipe or the data are wrong, or `out` is taken.
        WorkError: The training failed; the folder keeps the last good state.
    """
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.load(recipe)
    if out is not None and (Path(out) / "recipe.yaml").is_file():
        return _go_on(Run(out), recipe, resume, until)
    return _work(_located(recipe), lambda resolved: Run.create(resolved, recipe.digest(), out), until)


def resume(run: Run | str | Path, *, until: int | None = None) -> Run:
    """Go on with an interrupted run, to the end that it would have had; a finished one is returned as it is.

    Raises:
        RequestError: The folder is not a run.
    """
    run = Run(run)
    if run.summary is not None:
        console.say(f"{run.path} is finished already")
        return run
    return _work(run.recipe, lambda resolved: run, until, fresh=not run.checkpoint("last").is_file())


def _go_on(run: Run, recipe: recipes.Recipe, allowed: bool, until: int | None) -> Run:
    started = run.origin.get("requested")
    if not allowed:
        raise RequestError(f"{run.path} holds a run already; name another --out")
    if started != recipe.digest():
        raise RequestError(f"{run.path} holds a run of another recipe; name another --out")
    return resume(run, until=until)


def _located(recipe: recipes.Recipe) -> recipes.Recipe:
    """The recipe with all that follows from its ``train.weights``: their network's arguments, their absolute path."""
    weights = recipe.train.weights
    if weights is None:
        return recipe
    if not is_tag(recipe.model, weights):
        return recipe.override({"train.weights": str(Path(weights).expanduser().resolve())})
    known = with_arguments_of(recipe.model, weights, recipe.arguments)
    # Image shape and classes follow from the data: where the classes are others, the head starts anew.
    own = {k: v for k, v in known.items() if k in recipe.arguments or k not in ("input_shape", "num_classes")}
    return recipe.override({"arguments": own})


def _work(recipe: recipes.Recipe, get_run, until: int | None, *, fresh: bool = True) -> Run:
    recipe.check()
    keep_freed_memory()
    keras = import_keras()
    keras.utils.set_random_seed(recipe.train.seed)
    if recipe.train.deterministic:
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    from kzoo import tasks

    task = tasks.open_task(recipe)
    if fresh:
        task.look_ahead()
    task.open()
    # The seed is set again, so that the initial weights do not depend on what opening the data drew.
    keras.utils.set_random_seed(recipe.train.seed)
    model = task.start(fresh=fresh)
    run = get_run(task.recipe)
    with run.lock():
        write_json(run.path / "model.json", task.card())
        _save_samples(run, task.samples())
        size = f"{model.count_params():,} parameters"
        console.say(f"{task.recipe.model}, {size}, {task.recipe.arguments.get('dtype_policy', 'float32')}: {run.path}")
        try:
            figures = task.fit(model, run, until)
        except KeyboardInterrupt:
            console.say(f"go on with: kzoo train --resume {run.path}")
            raise
        if figures is not None:
            _finish(run, task, model, figures)
    return run


def _finish(run: Run, task, model, figures: dict) -> None:
    """Write what a finished run has: the plain model, and the figures, also of the test or else the validation part."""
    plain = _plain(task, model)
    with atomic(run.path / "model.keras") as temporary:
        portable(plain).save(temporary)
    part = next((p for p in ("test", "validation") if p in task.splits), None)
    found = evaluate_opened(run, task, plain, part) if part else None
    headline = {k: v for k, v in found.items() if isinstance(v, int | float)} if found else None
    for note in task.notes():
        console.say(note)
    write_json(
        run.path / "summary.json",
        {
            "model": task.recipe.model,
            "recipe": run.origin.get("recipe", ""),
            "recipe_digest": task.recipe.digest(),
            "seed": task.recipe.train.seed,
            "training": figures,
            "validation": headline if part == "validation" else None,
            "test": headline if part == "test" else None,
            "notes": task.notes(),
            "finished": now(),
            "environment": environment(),
        },
    )
    report(run)


def _plain(task, model):
    """The same network without optimiser and mixed precision, as every artefact is."""
    plain = task.build(dtype_policy="float32")
    plain.set_weights(model.get_weights())
    return plain


def _save_samples(run: Run, samples: dict) -> None:
    import numpy as np

    with atomic(run.path / "samples.npz") as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **samples)
