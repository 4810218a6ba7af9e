"""Training by Keras's own `fit`, with checkpoints from which it goes on bit for bit."""

from collections.abc import Callable, Sequence
from typing import Any

from kzoo import console, sections
from kzoo.errors import RequestError
from kzoo.run import Run
from kzoo.tasks import callbacks, freezing, normalization, optimizers, update_rules
from kzoo.weights import load_checkpoint, save_checkpoint


def fit(
    model,
    run: Run,
    settings: sections.Train,
    *,
    loss,
    metrics: list,
    monitor: str,
    training: Callable[[int, int], Any],
    validation: Any | None,
    judge: Callable[[Any], dict[str, float]] | None = None,
    steps_per_pass: int,
    items_per_step: int,
    unit: str,
    dtype_policy: str,
    until: int | None = None,
    carried: Sequence = (),
    watching: Sequence = (),
) -> dict[str, Any] | None:
    """Train a model, from the run's last checkpoint if there is one.

    Args:
        model: Uncompiled; holds the chosen weights afterwards.
        run: Where checkpoints and figures go.
        settings: The recipe's ``train`` section.
        loss: A Keras loss; None where the model's own `train_step` has one.
        metrics: Keras metrics.
        monitor: The figure that chooses the best epoch; without validation data the last epoch is taken.
        training: Gives the dataset of (first step, number of steps).
        validation: The dataset to validate with after each epoch, or None.
        judge: From the model, with its averaged weights if there are any, to figures of the validation part that no
            Keras metric gives, after each epoch; may stand in `validation`'s place.
        steps_per_pass: Training steps of one pass over the data; see `epoch_steps`.
        items_per_step: Examples in a step, for the speed.
        unit: What an example is called beside the speed, such as "images".
        dtype_policy: The policy that the model was built under.
        until: Stop after this many epochs in all, to be gone on with later; the schedule stays that of the whole.
        carried: Variables beside weights and optimiser that a resumed training needs, such as a recurrent state.
        watching: Further callbacks; at the end of a validation they see the weights that were validated.

    Returns:
        Figures for ``summary.json``; None for a training that is to be gone on with.

    Raises:
        RequestError: See `epoch_steps`.
        WorkError: The loss is no longer finite.
    """
    steps_per_epoch = epoch_steps(settings, steps_per_pass)
    thaw = freezing.Thaw(model, settings.unfreeze)
    _compile(model, settings, thaw, loss, metrics, steps_per_epoch, dtype_policy)
    judged = validation is not None or judge is not None
    best = _chooser(run, settings, monitor) if judged else None
    checkpoints = callbacks.Checkpoints(run, {"best": best} if best else {}, carried)
    done = checkpoints.restore(model)
    epochs = min(until or settings.epochs, settings.epochs)
    if done < epochs and not checkpoints.stopped:
        if done:
            console.say(f"going on after epoch {done} of {settings.epochs}")
        progress = callbacks.Progress(items_per_step, steps_per_epoch, unit)
        judging = callbacks.Judged(judge, progress) if judge else None
        # What a callback reads, an earlier one has put there.
        in_order = [callbacks.Thawing(thaw), *watching, callbacks.Averaging(), judging, progress]
        in_order += [callbacks.Finite(), best, callbacks.Board(run), checkpoints]
        dataset = training(done * steps_per_epoch, (epochs - done) * steps_per_epoch)
        if loss is not None:
            _make_variables(model, dataset)
        with normalization.fused(model):
            model.fit(
                dataset,
                epochs=epochs,
                initial_epoch=done,
                steps_per_epoch=steps_per_epoch,
                validation_data=validation,
                callbacks=[c for c in in_order if c is not None],
                shuffle=False,
                verbose=0,
            )
    if epochs < settings.epochs and not model.stop_training and not checkpoints.stopped:
        return None
    return _finish(model, run, best, monitor)


def epoch_steps(settings: sections.Train, steps_per_pass: int) -> int:
    """Training steps between two validations: whole calls of the compiled function.

    Raises:
        RequestError: There are fewer steps than one such call takes.
    """
    steps = settings.steps_per_epoch or steps_per_pass
    if settings.steps_per_execution > steps:
        raise RequestError(
            f"train.steps_per_execution is {settings.steps_per_execution}, and an epoch has {steps} steps"
        )
    return steps - steps % settings.steps_per_execution


def _compile(model, settings: sections.Train, thaw, loss, metrics, steps_per_epoch: int, dtype_policy: str) -> None:
    """Give the model its optimiser, with the variables of every layer that will ever be trained, and its loss."""
    optimizer = optimizers.build(settings, steps_per_epoch, dtype_policy, thaw.multipliers)
    optimizer.build(thaw.variables(model))
    model.compile(
        optimizer,
        loss=loss,
        metrics=metrics,
        jit_compile=settings.jit_compile,
        steps_per_execution=settings.steps_per_execution,
    )


def _chooser(run: Run, settings: sections.Train, monitor: str) -> callbacks.Best:
    """What keeps the best epoch and, where the recipe says so, stops after epochs without a better one."""
    stop = settings.early_stopping
    patience, min_delta = (stop.patience, stop.min_delta) if stop else (None, 0.0)
    return callbacks.Best(run, monitor, patience, min_delta)


def _make_variables(model, dataset) -> None:
    """Make the variables of several outputs' losses.

    Keras would make them while it traces the training step, which then has to be traced a second time, as with those of
    an optimiser that is not built.
    """
    if len(model.outputs) > 1:
        import tensorflow as tf

        _, targets = dataset.element_spec[:2]
        zeros = tf.nest.map_structure(lambda s: tf.zeros([n or 1 for n in s.shape], s.dtype), targets)
        outputs = tf.nest.map_structure(lambda o: tf.zeros([n or 1 for n in o.shape]), model.output)
        model.compute_loss(y=zeros, y_pred=outputs, training=True)
        model.reset_metrics()


def _finish(model, run: Run, best, monitor: str) -> dict[str, Any]:
    """Leave the chosen weights in the model and say which they are."""
    rows = run.metrics()
    figures = {"epochs": len(rows), "seconds": float(rows[-1]["seconds"])}
    if best is not None:
        load_checkpoint(run.checkpoint("best"), model)
        return {**figures, "best_epoch": best.epoch, monitor: best.best}
    load_checkpoint(run.checkpoint("last"), model, model.optimizer)
    update_rules.put_averages(model.optimizer)
    save_checkpoint(run.checkpoint("best"), model, {"epoch": len(rows)})
    return {**figures, "loss": float(rows[-1]["loss"])}
