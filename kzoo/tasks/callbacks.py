"""Callbacks whose state belongs to the checkpoint, so that a resumed training is the one that was interrupted."""

import contextlib
import math
import time
from collections.abc import Sequence

import keras

from kzoo import console, weights
from kzoo.errors import WorkError
from kzoo.run import Run
from kzoo.tasks import optimizers, update_rules


class Averaging(keras.callbacks.Callback):
    """Validates with the moving average of the weights in the model's place."""

    def on_test_begin(self, logs=None):
        """Put the averages in, where there are any."""
        self.validation = contextlib.ExitStack()
        self.validation.enter_context(update_rules.averaged(self.model.optimizer))

    def on_test_end(self, logs=None):
        """Put the weights back, bit for bit."""
        self.validation.close()


class Thawing(keras.callbacks.Callback):
    """Unfreezes layers at the start of the epochs from which on they are trained."""

    def __init__(self, thaw):
        super().__init__()
        self.thaw = thaw

    def on_epoch_begin(self, epoch, logs=None):
        """Unfreeze what is due, and let Keras trace the step anew; a training that goes on has several due at once."""
        if self.thaw.to(epoch):
            self.model.make_train_function(force=True)


class Best(keras.callbacks.Callback):
    """Keeps the weights of the best epoch, the later one of equals, and stops when none was better for long enough.

    Attributes:
        best: The best value so far; None before the first.
        epoch: The epoch that it was reached in, counted from 1.
    """

    def __init__(self, run: Run, monitor: str, patience: int | None, min_delta: float):
        super().__init__()
        self.run, self.monitor = run, monitor
        self.patience, self.min_delta = patience, min_delta
        self.state = {"best": None, "epoch": 0, "mark": None, "waited": 0}

    @property
    def state(self) -> dict:
        """What a checkpoint keeps."""
        return {"best": self.best, "epoch": self.epoch, "mark": self.mark, "waited": self.waited}

    @state.setter
    def state(self, values: dict) -> None:
        self.best, self.epoch = values["best"], values["epoch"]
        # What patience compares with: the value of the last epoch that was better by more than min_delta.
        self.mark, self.waited = values["mark"], values["waited"]

    def on_epoch_end(self, epoch, logs=None):
        """Compare the monitored figure with the best."""
        value = (logs or {}).get(self.monitor)
        if value is None:
            known = ", ".join(sorted(k for k in logs or {}))
            raise WorkError(f"train.monitor {self.monitor!r} is not among the figures of an epoch: {known}")
        sign = 1 if higher_is_better(self.monitor) else -1
        # What is no number is worse than anything.
        value = float(value) if math.isfinite(float(value)) else -sign * math.inf
        # Of equals the later one: its learning rate is lower, and on a small validation part ties are common.
        if self.best is None or sign * (value - self.best) >= 0:
            self.best, self.epoch = value, epoch + 1
            self._save(epoch)
        if self.mark is None or sign * (value - self.mark) > self.min_delta:
            self.mark, self.waited = value, 0
        else:
            self.waited += 1
        if self.patience is not None and self.waited >= self.patience:
            self.model.stop_training = True

    def _save(self, epoch):
        document = {"epoch": epoch + 1, self.monitor: self.best}
        with update_rules.averaged(self.model.optimizer):
            weights.save_checkpoint(self.run.checkpoint("best"), self.model, document)


class Judged(keras.callbacks.Callback):
    """Adds figures of the validation part to those of the epoch; comes before whatever reads them."""

    def __init__(self, judge, progress: "Progress"):
        super().__init__()
        self.judge, self.progress = judge, progress

    def on_epoch_end(self, epoch, logs=None):
        """Judge the model as it would be kept."""
        self.progress.on_test_begin()
        with update_rules.averaged(self.model.optimizer):
            logs.update({f"val_{name}": value for name, value in self.judge(self.model).items()})


class Checkpoints(keras.callbacks.Callback):
    """Writes the resumable checkpoint and the epoch's row of figures; comes last among the callbacks."""

    def __init__(self, run: Run, stateful: dict[str, object], carried: Sequence = ()):
        super().__init__()
        self.run, self.stateful, self.carried, self.before, self.stopped = run, stateful, carried, 0.0, False

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Write both, in an order in which a kill in between repeats work but never loses a row."""
        seconds = self.before + time.perf_counter() - self.began
        figures = {k: float(v) for k, v in (logs or {}).items()}
        rate = optimizers.learning_rate(self.model.optimizer)
        self.run.append_metrics({"epoch": epoch, **figures, "learning_rate": rate, "seconds": round(seconds, 2)})
        states = {name: part.state for name, part in self.stateful.items()}
        document = {
            "epochs_done": epoch + 1,
            "seconds": seconds,
            "stopped": self.model.stop_training,
            "states": states,
        }
        weights.save_checkpoint(
            self.run.checkpoint("last"), self.model, document, self.model.optimizer, carried=self.carried
        )

    def restore(self, model) -> int:
        """Restore the last checkpoint into a compiled model and the callbacks; drop rows of epochs that come again.

        Returns:
            Number of finished epochs; 0 without a checkpoint.
        """
        path = self.run.checkpoint("last")
        if not path.is_file():
            self.run.write_metrics([])
            return 0
        document = weights.load_checkpoint(path, model, model.optimizer, carried=self.carried)
        for name, part in self.stateful.items():
            part.state = document["states"][name]
        self.run.write_metrics(self.run.metrics(before_epoch=document["epochs_done"]))
        self.run.sweep()
        self.before = document["seconds"]
        self.stopped = document["stopped"]
        return document["epochs_done"]


class Finite(keras.callbacks.Callback):
    """Ends a training whose loss is no longer a finite number."""

    def on_epoch_end(self, epoch, logs=None):
        """Look at the epoch's loss, before anything is saved."""
        loss = float((logs or {}).get("loss", 0.0))
        if not math.isfinite(loss):
            raise WorkError(
                f"the loss is {loss} after epoch {epoch + 1}: lower train.optimizer.learning_rate or set "
                "train.gradient_clip; the checkpoint of the epoch before is kept"
            )


class Board(keras.callbacks.TensorBoard):
    """TensorBoard's curves over the epochs.

    Keras's own callback also makes a summary of every batch, which costs 0.6 ms a step even where none is written.
    """

    def __init__(self, run: Run):
        super().__init__(str(run.path / "tensorboard"), write_graph=False)

    def on_train_batch_begin(self, batch, logs=None):
        """Nothing: the curves are those of the epochs."""

    on_train_batch_end = on_train_batch_begin


class Progress(keras.callbacks.Callback):
    """One line for each epoch, and between them a moving line on a terminal."""

    def __init__(self, items_per_step: int, steps: int, unit: str):
        super().__init__()
        self.items_per_step, self.steps, self.unit = items_per_step, steps, unit

    def on_train_begin(self, logs=None):
        """Start the clock."""
        self.began, self.seen, self.shown = time.perf_counter(), 0, 0.0

    def on_epoch_begin(self, epoch, logs=None):
        """Start the epoch's clock."""
        self.epoch, self.epoch_began, self.trained, self.step = epoch, time.perf_counter(), None, 0

    def on_train_batch_end(self, batch, logs=None):
        """Move the line, at most five times a second."""
        self.step = batch + 1
        now = time.perf_counter()
        if console.live() and now - self.shown > 0.2:
            self.shown = now
            speed = self.step * self.items_per_step / (now - self.epoch_began)
            place = f"epoch {self.epoch + 1}/{self.params['epochs']}  step {self.step}/{self.steps}"
            console.say(f"{place}  {speed:,.0f} {self.unit}/s", end="\r")

    def on_test_begin(self, logs=None):
        """Validation does not count towards the speed."""
        self.trained = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        """Say the epoch's figures, the training speed and the time left."""
        now = time.perf_counter()
        self.seen += 1
        speed = self.steps * self.items_per_step / ((self.trained or now) - self.epoch_began)
        left = (now - self.began) / self.seen * (self.params["epochs"] - epoch - 1)
        figures = "  ".join(f"{k} {float(v):.4f}" for k, v in (logs or {}).items())
        place = f"epoch {epoch + 1}/{self.params['epochs']}"
        console.say(f"{place}  {figures}  {speed:,.0f} {self.unit}/s  {clock(left)} left")


def higher_is_better(monitor: str) -> bool:
    """Whether a figure improves upwards, by its name: losses, errors and perplexities improve downwards."""
    return not any(word in monitor for word in ("loss", "error", "perplexity", "bits", "nats"))


def clock(seconds: float) -> str:
    """Seconds as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"
