"""Names to builders.

A builder is a plain function with annotated keyword arguments that returns an uncompiled ``keras.Model``; its signature
is the only schema of its arguments. Listing and describing models reads that signature from the source file, so that it
never imports Keras; building imports the module.

Models come from modules named by the entry-point group ``kzoo.models``: the zoo's own package ``kzoo.models`` is one
entry, and a third-party package adds its own (``my_net = my_package.models``, a module, a package of modules, or
``module:function`` for a single builder).
"""

import ast
import fnmatch
import functools
import importlib
import importlib.util
import inspect
import re
import typing
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from kzoo import configs
from kzoo.errors import RequestError, nearest
from kzoo.quiet import import_keras

GROUP = "kzoo.models"
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True)
class Parameter:
    """One argument of a builder, as its signature states it."""

    name: str
    type: str
    default: object = REQUIRED


@dataclass(frozen=True)
class ModelInfo:
    """What the zoo knows of a model without building it.

    Attributes:
        name: The model's name, which is its builder's.
        task: ``classification``, ``detection``, ``text`` or ``control``.
        module: Where the builder lives.
        summary: First line of the builder's documentation.
        parameters: The builder's arguments.
        parameter_count: Weights of the network built with the default arguments; None where not declared.
        documentation: The builder's whole docstring.
        recipes: Names of the shipped recipes for this model.
        results: Measured results recorded in those recipes, each with its recipe's name.
        initial: Arguments that only say what a new network starts from; see `register`.
    """

    name: str
    task: str
    module: str
    summary: str
    parameters: tuple[Parameter, ...]
    parameter_count: int | None = None
    documentation: str = field(default="", repr=False)
    recipes: tuple[str, ...] = ()
    results: tuple[dict, ...] = ()
    initial: tuple[str, ...] = ()


def register(*, task: str, parameters: int | None = None, initial: tuple[str, ...] = ()) -> Callable:
    """Mark a builder function as a model of the zoo; the function's name is the model's name.

    Args:
        task: What the model is for: ``classification``, ``detection``, ``text`` or ``control``.
        parameters: Number of weights with the default arguments, shown by `info` (conformance tests compare it).
        initial: Arguments that only say what a new network starts from, such as a file of weights. A network that is
            loaded is built without them, whatever its card says: its own weights take their place.

    Raises:
        RequestError: Another function is registered under that name already.
    """

    def decorate(builder: Callable) -> Callable:
        name, known = builder.__name__, _builders.get(builder.__name__)
        if known is not None and (known.__module__, known.__qualname__) != (
            builder.__module__,
            builder.__qualname__,
        ):
            raise RequestError(f"model {name!r} of {builder.__module__} is registered already, by {known.__module__}")
        builder.kzoo_task, builder.kzoo_parameters, builder.kzoo_initial = task, parameters, tuple(initial)
        _builders[name] = builder
        return builder

    return decorate


_builders: dict[str, Callable] = {}


def list_models(pattern: str = "*", *, task: str | None = None) -> list[str]:
    """List model names in natural order (``net2`` before ``net10``).

    Args:
        pattern: Shell wildcard that names must match.
        task: Only models of this task.
    """
    found = (i.name for i in _catalogue().values() if task in (None, i.task))
    return sorted(fnmatch.filter(found, pattern), key=_natural)


def info(name: str) -> ModelInfo:
    """Describe a model without importing Keras.

    Raises:
        RequestError: No such model; the message names the nearest.
    """
    known = find(name)
    recipes = configs.list_recipes(name)
    results = []
    for recipe in recipes:
        values = configs.parse((configs.FOLDER / f"{recipe}.yaml").read_text("utf-8"), f"recipe {recipe}") or {}
        results += [{"recipe": recipe, **result} for result in values.get("results") or []]
    return replace(known, recipes=tuple(recipes), results=tuple(results))


def find(name: str) -> ModelInfo:
    """What a builder's source says of its model, without the recipes.

    Raises:
        RequestError: No such model; the message names the nearest.
    """
    catalogue = _catalogue()
    if name not in catalogue:
        raise RequestError(f"no model is called {name!r}{nearest(name, catalogue)}")
    return catalogue[name]


def builder_of(name: str) -> Callable:
    """Import Keras and the model's module, and return its builder function.

    Raises:
        RequestError: No such model.
    """
    module = find(name).module
    import_keras()
    if name not in _builders:
        importlib.import_module(module)
    return _builders[name]


def lasting(name: str, arguments: dict) -> dict:
    """Those of a model's arguments that a network with its own weights is built with; see `register`.

    Raises:
        RequestError: No such model.
    """
    initial = find(name).initial
    return {key: value for key, value in arguments.items() if key not in initial}


def check_arguments(name: str, arguments: dict, *, complete: bool = True) -> dict:
    """Validate a builder's arguments against its signature, before Keras is imported.

    Args:
        name: The model.
        arguments: Values by argument name, Python or YAML (a list stands for a tuple).
        complete: Whether an argument without a default must be given; a recipe's may still follow from its data.

    Returns:
        The arguments as the builder expects them; those not given are left out.

    Raises:
        RequestError: Unknown name, unknown argument (the nearest is named), or a value of another type.
    """
    import pydantic

    known = {p.name: p for p in find(name).parameters}
    checked = {}
    for key, value in arguments.items():
        if key not in known:
            raise RequestError(f"{name} has no argument {key!r}{nearest(key, known)}")
        try:
            checked[key] = _adapter(known[key].type).validate_python(value)
        except pydantic.ValidationError as error:
            problem = error.errors(include_url=False)[0]
            raise RequestError(
                f"{name}: argument {key!r} takes {known[key].type}, not {value!r} ({problem['msg']})"
            ) from None
    missing = [p.name for p in known.values() if p.default is REQUIRED and p.name not in checked]
    if missing and complete:
        raise RequestError(f"{name} needs the argument {missing[0]!r} ({known[missing[0]].type})")
    return checked


@functools.cache
def _adapter(annotation: str):
    """A pydantic validator for an annotation, which may use built-in types and ``typing``'s names."""
    import pydantic

    resolved = eval(annotation, {"__builtins__": {}}, {**vars(typing), **_TYPES})  # source text of an installed module
    # Strict, so that 3.5 is no int and "3" is no number; a list may stand for a tuple because YAML has no tuples.
    return _Lenient(pydantic.TypeAdapter(resolved, config=pydantic.ConfigDict(strict=True)))


_TYPES = {t.__name__: t for t in (int, float, str, bool, list, tuple, dict, set)}


class _Lenient:
    """Validates as JSON does: lists become tuples where the type asks for tuples, and ints become floats."""

    def __init__(self, adapter):
        self.adapter = adapter

    def validate_python(self, value):
        import json

        return self.adapter.validate_json(json.dumps(value, default=_plain))


def _plain(value):
    """Numpy scalars and arrays are arguments like any other."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise RequestError(f"{value!r} is not a plain value")


def _natural(name: str) -> list:
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def _catalogue() -> dict[str, ModelInfo]:
    """All models: those found in the sources, and those registered at run time."""
    found = dict(_discovered())
    for name, builder in _builders.items():
        if name not in found:
            found[name] = _from_function(builder)
    return found


@functools.cache
def _discovered() -> dict[str, ModelInfo]:
    """Models of every module that the entry points name; the first to claim a name has it."""
    found: dict[str, ModelInfo] = {}
    for origin, target in _entry_points():
        try:
            for known in _models_of(target):
                if known.name in found:
                    raise RequestError(f"model {known.name!r} is registered already, by {found[known.name].module}")
                found[known.name] = known
        except Exception as error:  # a plug-in may fail in any way, and the zoo goes on
            warnings.warn(f"plug-in {origin} is left out: {error}", stacklevel=2)
    return found


def _entry_points() -> list[tuple[str, str]]:
    """What to call an entry in messages, and what it points to; the zoo's own models first, installed or not."""
    others = [
        (f"{e.name!r} of {e.dist.name if e.dist else 'an unknown distribution'} ({e.value})", e.value)
        for e in metadata.entry_points(group=GROUP)
        if e.value != GROUP
    ]
    return [("kzoo", GROUP), *others]


def _models_of(target: str) -> Iterator[ModelInfo]:
    """Models of ``package``, ``module`` or ``module:function``, read from source without running it."""
    module, _, function = target.partition(":")
    found = [m for name, path in _sources(module) for m in _read_models(name, path)]
    if function:
        found = [m for m in found if m.name == function]
    if not found:
        raise RequestError(f"{target} holds no function decorated with @kzoo.register")
    yield from found


def _sources(module: str) -> Iterator[tuple[str, Path]]:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        raise RequestError(f"there is no module {module!r}")
    yield module, Path(spec.origin)
    for folder in spec.submodule_search_locations or ():
        for path in sorted(Path(folder).glob("*.py")):
            if path.stem != "__init__":
                yield f"{module}.{path.stem}", path


def _read_models(module: str, path: Path) -> Iterator[ModelInfo]:
    tree = ast.parse(path.read_text("utf-8"), filename=str(path))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and ast.unparse(decorator.func).split(".")[-1] == "register":
                    yield _from_source(module, node, {k.arg: ast.literal_eval(k.value) for k in decorator.keywords})


def _from_source(module: str, node: ast.FunctionDef, marks: dict) -> ModelInfo:
    def parameter(arg: ast.arg, default: ast.expr | None) -> Parameter:
        value = REQUIRED if default is None else ast.literal_eval(default)
        return Parameter(arg.arg, ast.unparse(arg.annotation) if arg.annotation else "Any", value)

    spec = node.args
    positional = [*spec.posonlyargs, *spec.args]
    defaults = [None] * (len(positional) - len(spec.defaults)) + spec.defaults
    pairs = [*zip(positional, defaults, strict=True), *zip(spec.kwonlyargs, spec.kw_defaults, strict=True)]
    documentation = ast.get_docstring(node) or ""
    return ModelInfo(
        name=node.name,
        task=marks["task"],
        module=module,
        summary=documentation.partition("\n")[0],
        parameters=tuple(parameter(a, d) for a, d in pairs),
        parameter_count=marks.get("parameters"),
        documentation=documentation,
        initial=tuple(marks.get("initial", ())),
    )


def _from_function(builder: Callable) -> ModelInfo:
    documentation = inspect.getdoc(builder) or ""

    def annotation(p: inspect.Parameter) -> str:
        return "Any" if p.annotation is REQUIRED else inspect.formatannotation(p.annotation).replace("typing.", "")

    return ModelInfo(
        name=builder.__name__,
        task=builder.kzoo_task,
        module=builder.__module__,
        summary=documentation.partition("\n")[0],
        parameters=tuple(
            Parameter(p.name, annotation(p), p.default) for p in inspect.signature(builder).parameters.values()
        ),
        parameter_count=builder.kzoo_parameters,
        documentation=documentation,
        initial=builder.kzoo_initial,
    )
