"""Keras optimisers and learning-rate schedules from a recipe's settings."""

import inspect
import math
import re
from typing import Any

import keras

from kzoo import sections
from kzoo.errors import RequestError, first_line, nearest
from kzoo.tasks import update_rules


def build(
    settings: sections.Train,
    steps_per_epoch: float,
    dtype_policy: str,
    factors: dict[str, float] | None = None,
    *,
    fused: bool = False,
) -> keras.optimizers.Optimizer:
    """Build the optimiser with its schedule, clipping and averaging.

    Args:
        settings: The recipe's ``train`` section.
        steps_per_epoch: Turns the schedule's epochs into steps; need not be whole.
        dtype_policy: Under ``mixed_float16`` the optimiser is wrapped to scale the loss; Keras does that by itself only
            for a global policy.
        factors: Further factors of the learning rate, by a regular expression on a variable's path.
        fused: Whether Adam may be computed by TensorFlow's kernel, which rounds a little differently.

    Raises:
        RequestError: Keras has no such optimiser, or it has no such argument or no such value for it.
    """
    wanted = settings.optimizer
    kind = _kind(wanted.name)
    if fused and kind is keras.optimizers.Adam and keras.backend.backend() == "tensorflow":
        kind = update_rules.FusedAdam
    given = _arguments(kind, settings)
    if wanted.multipliers or factors:
        kind = update_rules.with_multipliers(kind, wanted.multipliers, factors or {})
    if settings.lookahead:
        total = round(settings.epochs * steps_per_epoch)
        kind = update_rules.with_lookahead(kind, **settings.lookahead.model_dump(), total_steps=total)
    try:
        optimizer = kind(learning_rate=_schedule(settings, steps_per_epoch), **given)
    except (TypeError, ValueError) as error:
        raise RequestError(
            f"train.optimizer: {wanted.name} of Keras does not take these arguments: {first_line(error)}"
        ) from None
    # Keras would put the averages in the model's place when `fit` ends, in the wrong places where layers are frozen;
    # the zoo does so itself, see `kzoo.tasks.update_rules.put_averages`.
    optimizer.finalize_variable_values = lambda variables: None
    if wanted.decay_excludes:
        # Some decay by Keras's defaults. Keras reads the names as regular expressions.
        optimizer.exclude_from_weight_decay(var_names=[re.escape(name) for name in wanted.decay_excludes])
    return keras.optimizers.LossScaleOptimizer(optimizer) if dtype_policy == "mixed_float16" else optimizer


def check(settings: sections.Train) -> None:
    """Raise what `build` would raise, before anything slow."""
    build(settings, 1, "float32")


def learning_rate(optimizer: keras.optimizers.Optimizer) -> float:
    """The learning rate of the next step."""
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    return float(keras.ops.convert_to_numpy(inner.learning_rate))


def _kind(name: str) -> type:
    kinds = {
        n.lower(): c
        for n, c in vars(keras.optimizers).items()
        if inspect.isclass(c)
        and issubclass(c, keras.optimizers.Optimizer)
        and n not in ("Optimizer", "LossScaleOptimizer")
    }
    kinds["muon"] = update_rules.Muon
    if name.lower() not in kinds:
        raise RequestError(f"train.optimizer.name: Keras has no optimizer {name!r}{nearest(name.lower(), kinds)}")
    return kinds[name.lower()]


def _arguments(kind: type, settings: sections.Train) -> dict[str, Any]:
    """Arguments of an optimiser class but for the learning rate.

    Raises:
        RequestError: It does not have one of them.
    """
    wanted, clip = settings.optimizer, settings.gradient_clip
    apart = {"name", "learning_rate", "decay_excludes", "multipliers", "arguments"}
    given = wanted.model_dump(exclude=apart, exclude_none=True)
    if kind is update_rules.Muon and "weight_decay" in given:
        # Of the weights that Muon leaves to AdamW, which Keras gives a decay of their own.
        given["adam_weight_decay"] = given["weight_decay"]
    given |= wanted.arguments
    clips = {"clipnorm": clip.norm, "clipvalue": clip.value, "global_clipnorm": clip.global_norm}
    given |= {name: value for name, value in clips.items() if value}
    if settings.ema:
        given |= {"use_ema": True, "ema_momentum": settings.ema}
    known = set(inspect.signature(kind).parameters) | set(inspect.signature(keras.optimizers.Optimizer).parameters)
    for key in given:
        if key not in known - {"kwargs", "name", "learning_rate"}:
            raise RequestError(f"train.optimizer: {wanted.name} of Keras has no argument {key!r}{nearest(key, known)}")
    return given


def _schedule(settings: sections.Train, steps_per_epoch: float):
    peak, shape = settings.optimizer.learning_rate, settings.schedule
    if isinstance(shape, sections.Constant) and not shape.warmup_epochs:
        return peak
    total = round(settings.epochs * steps_per_epoch)
    if isinstance(shape, sections.OneCycle):
        return Curve(peak, total, peak_at=shape.peak, start=shape.initial, end=shape.final, shape=shape.shape)
    warmup = round(shape.warmup_epochs * steps_per_epoch)
    if isinstance(shape, sections.Cosine):
        return Curve(
            peak,
            total,
            peak_at=warmup / total,
            start=0.0,
            end=shape.final,
            shape="cosine",
            warmup_shape="linear",
        )
    boundaries = [round(b * steps_per_epoch) for b in getattr(shape, "boundaries", ())]
    return Steps(peak, warmup, boundaries, getattr(shape, "factor", 1.0))


@keras.saving.register_keras_serializable("kzoo")
class Curve(keras.optimizers.schedules.LearningRateSchedule):
    """Up from `start` to the peak at `peak_at`, then down to `end`, along lines or half cosines."""

    def __init__(self, peak, steps, *, peak_at, start, end, shape="linear", warmup_shape=None):
        self.config = dict(
            peak=peak,
            steps=steps,
            peak_at=peak_at,
            start=start,
            end=end,
            shape=shape,
            warmup_shape=warmup_shape or shape,
        )

    def __call__(self, step):
        """Learning rate of a step, counted from zero."""
        c, ops = self.config, keras.ops
        top = max(c["peak_at"] * c["steps"], 1e-9)
        step = ops.cast(step, "float32")
        rising, falling = (
            ops.minimum(step / top, 1.0),
            ops.clip((step - top) / max(c["steps"] - top, 1e-9), 0.0, 1.0),
        )

        def bend(x, shape):
            return x if shape == "linear" else (1 - ops.cos(x * math.pi)) / 2

        up = c["start"] + (1 - c["start"]) * bend(rising, c["warmup_shape"])
        down = 1 + (c["end"] - 1) * bend(falling, c["shape"])
        return c["peak"] * ops.where(step < top, up, down)

    def get_config(self):
        """Arguments that make this schedule again."""
        return dict(self.config)


@keras.saving.register_keras_serializable("kzoo")
class Steps(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to the peak, then a factor at each boundary."""

    def __init__(self, peak, warmup, boundaries, factor):
        self.config = dict(peak=peak, warmup=warmup, boundaries=list(boundaries), factor=factor)

    def __call__(self, step):
        """Learning rate of a step, counted from zero."""
        c, ops = self.config, keras.ops
        step = ops.cast(step, "float32")
        rate = c["peak"] * (ops.minimum((step + 1) / c["warmup"], 1.0) if c["warmup"] else ops.ones_like(step))
        for boundary in c["boundaries"]:
            rate = rate * ops.where(step >= boundary, c["factor"], 1.0)
        return rate

    def get_config(self):
        """Arguments that make this schedule again."""
        return dict(self.config)
