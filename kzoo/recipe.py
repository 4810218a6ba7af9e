"""What to train, typed and strict: load, override, validate, dump.

A recipe's resolved form is defaults, then the file, then ``--set`` overrides. An unknown key, a key given twice or a
value of another type is an error that names the key and the nearest valid one, before Keras is imported. A task types
its own sections: ``kzoo.tasks.<task>.settings`` holds a subclass of `Recipe` of that name.
"""

import functools
import hashlib
import importlib
import json
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import pydantic

from kzoo import configs, registry
from kzoo.errors import RequestError, nearest
from kzoo.sections import Export, Policy, Search, Settings, Train, Training


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
            RequestError: A dtype policy that nothing is trained under, an unknown figure to monitor, or data that are
                not there.
        """
        policy, known = self.arguments.get("dtype_policy", "float32"), typing.get_args(Policy)
        if policy not in known:
            raise RequestError(
                f"arguments.dtype_policy is {policy!r}, and a training takes one whose weights are float32: "
                f"{', '.join(known)}"
            )

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
