"""The sections of a recipe that every family has: how to train, to search and to export.

A task types `data` and adds to `train` in its own ``settings`` module, from the same parts.
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

# Policies whose weights are float32, as those of checkpoints and artefacts are.
Policy = Literal["float32", "mixed_float16", "mixed_bfloat16"]
# A part of a whole; all of it is too much.
Share = Annotated[float, Field(ge=0, lt=1)]


class Settings(pydantic.BaseModel):
    """A section of a recipe: strict types, no unknown keys, unchangeable."""

    model_config = pydantic.ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _checked_patterns(value: Iterable[str]):
    """The value itself, a collection of regular expressions."""
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
    return value


class Optimizer(Settings):
    """An optimiser of Keras by its name, with the arguments that people set; what is None keeps Keras's default."""

    name: str = Field("adam", description="name of a Keras optimizer: sgd, adam, adamw, rmsprop, lion, muon, ...")
    learning_rate: PositiveFloat = Field(1e-3, description="peak learning rate; the schedule scales it")
    momentum: Share | None = Field(None, description="of sgd and rmsprop")
    nesterov: bool | None = Field(None, description="of sgd")
    beta_1: Share | None = Field(None, description="of adam and its relatives")
    beta_2: Share | None = Field(None, description="of adam and its relatives")
    rho: Share | None = Field(None, description="of rmsprop")
    epsilon: PositiveFloat | None = None
    weight_decay: NonNegativeFloat | None = Field(None, description="decoupled, per step and times the learning rate")
    decay_excludes: tuple[str, ...] = Field(
        ("bias", "gamma", "beta"), description="weight decay spares weights whose name contains one of these"
    )
    multipliers: dict[str, PositiveFloat] = Field(
        {}, description="factors of the learning rate by a regular expression on the weight's path, such as beta: 64"
    )
    arguments: dict[str, Any] = Field({}, description="further arguments of that Keras optimizer")

    @pydantic.field_validator("multipliers")
    @classmethod
    def _patterns(cls, value):
        return _checked_patterns(value)


class Constant(Settings):
    """The learning rate stays at its peak, after a linear warm-up if there is one."""

    name: Literal["constant"]
    warmup_epochs: NonNegativeFloat = 0.0


class Cosine(Settings):
    """Linear warm-up, then half a cosine to `final` (Loshchilov and Hutter 2016, arXiv 1608.03983)."""

    name: Literal["cosine"]
    warmup_epochs: NonNegativeFloat = 0.0
    final: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="learning rate at the end, as part of the peak")


class Piecewise(Settings):
    """The learning rate is multiplied by `factor` at each boundary."""

    name: Literal["piecewise"]
    boundaries: tuple[PositiveFloat, ...] = Field(description="epochs, rising")
    factor: PositiveFloat = 0.1
    warmup_epochs: NonNegativeFloat = 0.0


class OneCycle(Settings):
    """Up to the peak and down again (Smith and Topin 2017, arXiv 1708.07120)."""

    name: Literal["one_cycle"]
    peak: Annotated[float, Field(gt=0, lt=1)] = Field(0.3, description="share of the training before the peak")
    initial: Annotated[float, Field(ge=0, le=1)] = Field(
        0.04, description="learning rate at the start, as part of the peak"
    )
    final: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="learning rate at the end, as part of the peak")
    shape: Literal["linear", "cosine"] = "linear"


Schedule = Annotated[Constant | Cosine | Piecewise | OneCycle, Field(discriminator="name")]


class EarlyStopping(Settings):
    """Stop when the monitored figure has not improved for `patience` epochs."""

    patience: PositiveInt = 10
    min_delta: NonNegativeFloat = 0.0


class Clip(Settings):
    """Gradient clipping; at most one of the three (Keras's `clipnorm`, `clipvalue`, `global_clipnorm`)."""

    norm: PositiveFloat | None = None
    value: PositiveFloat | None = None
    global_norm: PositiveFloat | None = None

    @pydantic.model_validator(mode="after")
    def _one_of_three(self):
        if sum(v is not None for v in (self.norm, self.value, self.global_norm)) > 1:
            raise ValueError("takes only one of norm, value and global_norm")
        return self


class Lookahead(Settings):
    """Pull the weights back to a slow average every few steps, more strongly towards the end (arXiv 1907.08610)."""

    every: PositiveInt = Field(5, description="steps between two pulls")
    decay: Share = Field(0.774, description="share of the slow weights in a pull at the end of the training")
    ramp: NonNegativeFloat = Field(3.0, description="the share rises with this power of the training's progress")


class Unfreeze(Settings):
    """Layers of `freeze` that are trained after all from some epoch on."""

    layers: tuple[str, ...] = Field(description="regular expressions on their names, such as stage[345]_")
    epoch: NonNegativeInt = Field(description="epochs that are trained without them")
    factor: PositiveFloat = Field(1.0, description="of the learning rate, for these layers")

    @pydantic.field_validator("layers")
    @classmethod
    def _patterns(cls, value):
        return _checked_patterns(value)


class Training(Settings):
    """What every training takes, whatever it learns from."""

    weights: str | None = Field(
        None, description="what to start from: trained weights by their tag, a run folder or an artefact"
    )
    freeze: tuple[str, ...] = Field(
        (), description="layers that stay as they start, by regular expressions on their names, such as stage[12]_"
    )
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Constant(name="constant")
    gradient_clip: Clip = Clip()
    monitor: str = Field("", description="figure that chooses the best checkpoint; default: the task's own")
    precision: Literal["auto", Policy] = "auto"
    jit_compile: bool | Literal["auto"] = Field("auto", description="compile the step with XLA; auto: on GPUs")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    deterministic: bool = Field(False, description="ask TensorFlow for deterministic kernels, also on GPUs; slower")

    @pydantic.field_validator("freeze")
    @classmethod
    def _patterns(cls, value):
        return _checked_patterns(value)


class Train(Training):
    """How to train on a data set; a task may add its own keys."""

    epochs: PositiveInt = 10
    steps_per_epoch: PositiveInt | None = Field(
        None, description="steps between two validations and checkpoints; default: one pass over the data"
    )
    ema: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None, description="momentum of the weights' moving average, which is what is validated and kept"
    )
    lookahead: Lookahead | None = None
    unfreeze: tuple[Unfreeze, ...] = Field(
        (),
        description="layers of freeze to train after all, each with the epoch from which on and a learning-rate factor",
    )
    early_stopping: EarlyStopping | None = None
    steps_per_execution: PositiveInt = Field(1, description="training steps in one call of the compiled function")

    @pydantic.model_validator(mode="after")
    def _one_average(self):
        if self.ema and self.lookahead:
            raise ValueError("takes only one of ema and lookahead")
        return self


class SearchParameter(Settings):
    """One tunable key's values: a range, choices, or one fixed value; under a condition if it has one."""

    min: float | int | None = None
    max: float | int | None = None
    step: float | int | None = Field(None, description="of the range; a factor where it is logarithmic")
    log: bool = False
    choices: tuple[Any, ...] | None = None
    fixed: Any = Field(None, description="the key's value in every trial")
    when: dict[str, Any] = Field(
        {}, description="only in trials in which other keys of the space have this value, or one of these"
    )
    otherwise: Any = Field(None, description="the key's value in the other trials; default: the recipe's own")

    @pydantic.model_validator(mode="after")
    def _one_form(self):
        forms = (self.choices is not None, self.min is not None and self.max is not None, self.is_fixed)
        if sum(forms) != 1 or (self.min is None) != (self.max is None):
            raise ValueError("takes either choices, or min and max, or fixed")
        if self.min is not None and self.min >= self.max:
            raise ValueError("has a min that is not below its max")
        if self.min is None and (self.log or self.step is not None):
            raise ValueError("takes log and step only with min and max")
        if self.log and self.min <= 0:
            raise ValueError("is logarithmic, so its min must be above 0")
        if self.choices is not None and not self.choices:
            raise ValueError("has no choices")
        if self.has_otherwise and not self.when:
            raise ValueError("takes otherwise only with when")
        return self

    @pydantic.model_serializer(mode="wrap")
    def _as_written(self, handler):
        # Null is a value here, and no key that is left out: only what was written is dumped.
        return {k: v for k, v in handler(self).items() if k in self.model_fields_set}

    @property
    def is_fixed(self) -> bool:
        """Whether one value was given, which may be null."""
        return "fixed" in self.model_fields_set

    @property
    def has_otherwise(self) -> bool:
        """Whether there is a value for the trials in which the condition does not hold; it may be null."""
        return "otherwise" in self.model_fields_set


class Search(Settings):
    """How `kzoo search` looks for a better recipe; `space` maps dotted recipe keys to values."""

    engine: Literal["keras_tuner", "optuna"] = "keras_tuner"
    tuner: Literal["random", "grid", "bayesian", "hyperband", "tpe"] = Field(
        "random", description="bayesian and hyperband are Keras Tuner's, tpe is Optuna's"
    )
    pruner: Literal["none", "median", "successive_halving", "hyperband"] = Field(
        "none", description="ends trials that look hopeless; all but median are Optuna's"
    )
    max_trials: PositiveInt | None = Field(
        None, description="default: no limit beside max_hours; without it 20, all of a grid, or a sweep of hyperband"
    )
    max_hours: PositiveFloat | None = Field(None, description="no trial starts later; those under way are finished")
    objective: str = Field("", description="figure to improve; default: the task's own")
    direction: Literal["max", "min", ""] = Field("", description="default: by the objective's name")
    seed: NonNegativeInt = 0
    seeds: PositiveInt = Field(
        1, description="trainings of each trial, over seeds from train.seed up; the median of their scores counts"
    )
    min_epochs: PositiveInt = Field(
        2, description="epochs of the first rung of hyperband, and before a pruner may end a trial"
    )
    factor: Annotated[int, Field(ge=2)] = Field(3, description="hyperband keeps one trial of this many at each rung")
    during: dict[str, Any] = Field(
        {}, description="dotted keys that hold in the trials alone, such as data.validation, and not for the winner"
    )
    space: dict[str, SearchParameter] = {}


# The names of `kzoo.export.formats.FORMATS`.
ExportFormat = Literal[
    "h5",
    "keras",
    "weights_h5",
    "saved_model",
    "onnx",
    "litert",
    "openvino",
    "keras_int8",
    "onnx_int8",
    "onnx_float16",
    "litert_dynamic",
    "litert_int8",
    "litert_float16",
]


class Export(Settings):
    """What `kzoo export` writes unless told otherwise."""

    formats: tuple[ExportFormat, ...] = ("h5", "keras", "weights_h5", "saved_model")
