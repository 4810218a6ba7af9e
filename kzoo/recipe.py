"""What to train, typed and strict: load, override, validate, dump.

A recipe's resolved form is defaults, then the file, then ``--set`` overrides. An unknown key, a key given twice or a
value of another type is an error that names the key and the nearest valid one, before Keras is imported. A task types
its own sections: ``kzoo.tasks.<task>.settings`` holds a subclass of `Recipe` of that name.
"""

import hashlib
import importlib
import json
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pydantic

from kzoo import configs, registry, schema
from kzoo.errors import RequestError, nearest
from kzoo.sections import Export, Policy, Search, Settings, Train, Training

# Top-level keys that no trial of a search may have of its own.
_UNTUNABLE = ("model", "search", "export", "results", "tuned")


class Recipe(Settings):
    """A model, its data and how to train it; tasks subclass it and type `data` and `train` further.

    Attributes:
        model: Name of a registered model.
        arguments: Arguments of its builder; what follows from the data (classes, input shape) may be left out.
        results: Measured results, written by tools only.
        tuned: Where a tuned recipe came from, written by `kzoo search` only.
    """

    model: str
    arguments: dict[str, Any] = pydantic.Field({})
    data: Settings = Settings()
    train: Training = Train()
    search: Search = Search()
    export: Export = Export()
    results: tuple[dict[str, Any], ...] = ()
    tuned: dict[str, Any] = pydantic.Field({})
    # Whether what the trained model answers comes from files, or is given as it is.
    reads_files: ClassVar[bool] = True
    # What an epoch yields and `train.monitor` may name.
    figures: ClassVar[tuple[str, ...]] = ()
    _name: str = pydantic.PrivateAttr("")

    @property
    def name(self) -> str:
        """The recipe's own name, ``model/dataset`` or a file's stem; empty for one that was made in Python."""
        return self._name

    @property
    def short_name(self) -> str:
        """The recipe's own part of its name, which folders are called by: ``dataset``, or ``custom``."""
        return self._name.rpartition("/")[2] or "custom"

    @property
    def task(self) -> str:
        """The task of the recipe's model."""
        return registry.find(self.model).task

    def check(self) -> None:
        """Raise what is wrong with the recipe as far as it can be told within a second, without Keras.

        Raises:
            RequestError: A dtype policy that nothing is trained under, an unknown figure to monitor, or data that are
                not there.
        """
        policy, known = self.arguments.get("dtype_policy", "float32"), typing.get_args(Policy)
        if policy not in known:
            raise RequestError(
                f"arguments.dtype_policy is {policy!r}, and a training takes one whose weights are float32: "
                f"{', '.join(known)}"
            )
        monitor = self.train.monitor
        if monitor and monitor not in self.figures:
            raise RequestError(f"train.monitor: there is no figure {monitor!r}{nearest(monitor, self.figures)}")

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
        written = json.dumps(values, default=list)
        recipe = kind.model_validate_json(written)
    except pydantic.ValidationError as error:
        raise RequestError(f"{origin}: {schema.explain(kind, json.loads(written), error)}") from None
    except (TypeError, ValueError) as error:
        raise RequestError(f"{origin}: {error}") from None
    try:
        registry.check_arguments(recipe.model, recipe.arguments, complete=False)
        for key, parameter in recipe.search.space.items():
            values = (parameter.fixed,) if parameter.is_fixed else parameter.choices or (parameter.min, parameter.max)
            _check_tunable(recipe, "search.space", key, values)
        for key, value in recipe.search.during.items():
            _check_tunable(recipe, "search.during", key, (value,))
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


def _check_tunable(recipe: Recipe, where: str, key: str, values: Iterable[Any]) -> None:
    """A search may name only keys that decide a training and that an override could set.

    Args:
        recipe: The recipe.
        where: The part of the recipe that names the key.
        key: The dotted key.
        values: Some of what it may be.
    """
    head, _, rest = key.partition(".")
    if head == "arguments":
        known = [p.name for p in registry.find(recipe.model).parameters]
        if rest not in known:
            raise RequestError(f"{where}: {recipe.model} has no argument {rest!r}{nearest(rest, known)}")
        return
    if head in _UNTUNABLE:
        raise RequestError(f"{where}: {key} is the same in all trials")
    section: Any = type(recipe)
    for part in key.split("."):
        fields = schema.fields(section)
        if fields is None:
            if schema.takes_any_key(section):
                return
            raise RequestError(f"{where}: there is no key {key!r}, for what stands before {part!r} is a value")
        if part not in fields:
            raise RequestError(f"{where}: there is no key {key!r}{nearest(part, fields)}")
        section = fields[part].annotation
    if schema.classes(section) and not all(isinstance(v, dict) for v in values if v is not None):
        raise RequestError(
            f"{where}: {key} is a section; name one of its keys, such as {key}.{next(iter(schema.fields(section)))}"
        )
