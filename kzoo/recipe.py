"""What to train, typed and strict: load, override, validate, dump.

A recipe's resolved form is defaults, then the file, then ``--set`` overrides. An unknown key, a key given twice or a
value of another type is an error that names the key and the nearest valid one, before Keras is imported. A task types
its own sections: ``kzoo.tasks.<task>.settings`` holds a subclass of `Recipe` of that name.
"""

import functools
import hashlib
import importlib
import json
import re
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pydantic
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from kzoo import configs, registry
from kzoo.errors import RequestError, nearest

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
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
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


class Recipe(Settings):
    """A model, its data and how to train it; tasks subclass it and type `data` and `train` further.

    Attributes:
        model: Name of a registered model.
        arguments: Arguments of its builder; what follows from the data (classes, input shape) may be left out.
        results: Measured results, written by tools only.
        tuned: Where a tuned recipe came from, written by `kzoo search` only.
    """

    model: str
    arguments: dict[str, Any] = {}
    data: Settings = Settings()
    train: Training = Train()
    search: Search = Search()
    export: Export = Export()
    results: tuple[dict[str, Any], ...] = ()
    tuned: dict[str, Any] = {}
    # Whether what the trained model answers comes from files, or is given as it is.
    reads_files: ClassVar[bool] = True
    _name: str = pydantic.PrivateAttr("")

    @property
    def name(self) -> str:
        """The recipe's own name, ``model/dataset`` or a file's stem; empty for one that was made in Python."""
        return self._name

    @property
    def task(self) -> str:
        """The task of the recipe's model."""
        return registry.find(self.model).task

    def check(self) -> None:
        """Raise what is wrong with the recipe as far as it can be told within a second, without Keras.

        Raises:
            RequestError: An unknown figure to monitor, or data that are not there.
        """

    def values(self) -> dict:
        """The recipe as plain values, defaults included, tuples as lists."""
        return json.loads(self.model_dump_json())

    def override(self, overrides: Iterable[str] | dict[str, Any]) -> "Recipe":
        """Return the recipe with dotted keys set: ``["train.epochs=3"]`` or ``{"train.epochs": 3}``."""
        values = self.model_dump(mode="json", exclude_unset=True)
        return from_values(apply(values, overrides), origin=self.name or "the recipe", name=self.name)

    def dump(self, *, resolved: bool = True) -> str:
        """Write the recipe as YAML, whole or only what differs from the defaults."""
        return configs.dump(self.values() if resolved else self.model_dump(mode="json", exclude_defaults=True))

    def digest(self) -> str:
        """Hexadecimal SHA-256 of what decides a training: all but search, export, results and tuned.

        Only what differs from the defaults counts, so that a key that a later version adds leaves the digest alone.
        """
        written = self.model_dump(mode="json", exclude_defaults=True)
        decisive = {k: v for k, v in written.items() if k in ("model", "arguments", "data", "train")}
        return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def load(reference: str | Path, overrides: Iterable[str] | dict[str, Any] = ()) -> Recipe:
    """Load a recipe by name or path, with overrides.

    Args:
        reference: A shipped recipe's name such as ``cnn_classifier/mnist``, or the path of a YAML file.
        overrides: ``"dotted.key=YAML value"`` strings, or a mapping from dotted keys to values.

    Raises:
        RequestError: No such recipe, or it is not valid; one sentence that names the key.
    """
    path, name = _find(str(reference))
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"recipe {reference} cannot be read: {error}") from None
    return from_values(apply(configs.parse(text, str(reference)), overrides), origin=str(reference), name=name)


load_recipe = load


def of_task(task: str) -> type[Recipe]:
    """The recipes of a task."""
    return importlib.import_module(f"kzoo.tasks.{task}.settings").Recipe


def from_values(values: dict[str, Any], *, origin: str = "the recipe", name: str = "") -> Recipe:
    """Validate plain values as a recipe.

    Args:
        values: The recipe's content, as parsed from YAML.
        origin: What to call it in errors.
        name: The recipe's name, which names its run folders.
    """
    if not isinstance(values, dict) or not isinstance(values.get("model"), str):
        raise RequestError(f"{origin}: a recipe starts with 'model: <name>'; `kzoo list` shows the names")
    task = registry.find(values["model"]).task
    kind = of_task(task)
    try:
        recipe = kind.model_validate_json(json.dumps(values, default=list))
    except pydantic.ValidationError as error:
        raise RequestError(f"{origin}: {_explain(kind, error)}") from None
    except (TypeError, ValueError) as error:
        raise RequestError(f"{origin}: {error}") from None
    try:
        registry.check_arguments(recipe.model, recipe.arguments, complete=False)
        for key in (*recipe.search.space, *recipe.search.during):
            _check_tunable(recipe, key)
    except RequestError as error:
        raise RequestError(f"{origin}: {error}") from None
    recipe._name = name
    return recipe


def apply(values: dict[str, Any], overrides: Iterable[str] | dict[str, Any]) -> dict[str, Any]:
    """Return plain values with dotted keys set; sections on the way are made.

    Raises:
        RequestError: An override is not of the form ``key=value``, or goes through a key that is no section.
    """
    if not isinstance(values, dict):
        return values
    values = json.loads(json.dumps(values, default=list))
    if not isinstance(overrides, dict):
        overrides = dict(_parse_override(o) for o in overrides)
    for dotted, value in overrides.items():
        *path, last = dotted.split(".")
        section = values
        for key in path:
            if section.get(key) is None:
                section[key] = {}
            section = section[key]
            if not isinstance(section, dict):
                raise RequestError(f"{dotted}: {key!r} is a value, not a section")
        section[last] = value
    return values


def _parse_override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise RequestError(f"--set takes key=value such as train.epochs=3, not {text!r}")
    return key.strip(), configs.parse(value, f"--set {key.strip()}")


def _find(reference: str) -> tuple[Path, str]:
    path = Path(reference)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise RequestError(f"there is no recipe file {reference}")
        return path, path.stem
    known = configs.list_recipes()
    if reference in known:
        return configs.FOLDER / f"{reference}.yaml", reference
    own = [k for k in known if k.startswith(f"{reference}/")]
    hint = f"; recipes of {reference}: {', '.join(own)}" if own else nearest(reference, known)
    raise RequestError(f"there is no recipe {reference!r}{hint}")


def _check_tunable(recipe: Recipe, key: str) -> None:
    """A search space may name only keys that an override could set."""
    head, _, rest = key.partition(".")
    if head == "arguments":
        known = [p.name for p in registry.find(recipe.model).parameters]
        if rest not in known:
            raise RequestError(f"search.space: {recipe.model} has no argument {rest!r}{nearest(rest, known)}")
        return
    section: Any = type(recipe)
    for part in key.split("."):
        fields = _fields(section)
        if fields is not None and part not in fields:
            raise RequestError(f"search.space: there is no key {key!r}{nearest(part, fields)}")
        section = fields[part].annotation if fields else Any


def _explain(kind: type[Recipe], error: pydantic.ValidationError) -> str:
    """One sentence for the first problem: the dotted key, what is wrong, and the nearest valid key."""
    problem = error.errors(include_url=False)[0]
    # A union's member ("literal['none']", "dict[str,float]") is pydantic's own word in the place, not the user's.
    path = [str(p) for p in problem["loc"] if "[" not in str(p)]
    section, named = kind, []
    for part in path[:-1]:
        if part not in _tags(section):
            named.append(part)
        section = _step(section, part)
    if problem["type"] == "extra_forbidden":
        place = ".".join(named) or "the recipe's top level"
        return f"unknown key {path[-1]!r} in {place}{nearest(path[-1], _fields(section) or ())}"
    if path and path[-1] not in _tags(section):
        named.append(path[-1])
    key = ".".join(named) or "the recipe"
    if problem["type"] == "missing":
        return f"{key} is missing"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = f" (given: {given!r})" if not isinstance(given, dict) and problem["type"] != "value_error" else ""
    return f"{key}: {message[:1].lower()}{message[1:]}{shown}"


def _fields(section) -> dict | None:
    """Fields of the one Settings class inside an annotation; None where there is none."""
    classes = _classes(section)
    if not classes:
        return None
    return functools.reduce(lambda a, b: a | b, (c.model_fields for c in classes))


def _classes(annotation) -> list[type[Settings]]:
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return [annotation]
    return [c for a in typing.get_args(annotation) for c in _classes(a)]


def _tags(section) -> dict[str, type[Settings]]:
    """Alternatives of a section by their tag, which pydantic adds to an error's place though no user wrote it."""
    classes = _classes(section)
    return {typing.get_args(c.model_fields["name"].annotation)[0]: c for c in classes} if len(classes) > 1 else {}


def _step(section, part: str):
    if part in _tags(section):
        return _tags(section)[part]
    fields = _fields(section) or {}
    return fields[part].annotation if part in fields else Any
