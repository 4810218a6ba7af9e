"""The search space: what each tunable key's values are, which are active together, and whether recipes take them."""

import math
from typing import Any

from kzoo import recipe as recipes
from kzoo import sections
from kzoo.errors import RequestError, nearest

FORM = "search: {space: {train.optimizer.learning_rate: {min: 1e-4, max: 1e-2, log: true}}}"
_ENGINES = {
    "keras_tuner": {"tuner": ("random", "grid", "bayesian", "hyperband"), "pruner": ("none", "median")},
    "optuna": {
        "tuner": ("random", "grid", "tpe"),
        "pruner": ("none", "median", "successive_halving", "hyperband"),
    },
}

_MOST_LEVELS = 100_000  # each of them is kept

Space = dict[str, sections.SearchParameter]


def levels(parameter: sections.SearchParameter) -> list | None:
    """The values of choices, of a stepped range or of a fixed key, in order; None for a range without steps.

    The steps of a logarithmic range are factors.
    """
    if parameter.is_fixed:
        return [parameter.fixed]
    if parameter.choices is not None:
        return list(parameter.choices)
    low, step = parameter.min, parameter.step
    if step is None:
        return None
    count = _count(parameter)
    found = [low * step**i for i in range(count)] if parameter.log else [low + step * i for i in range(count)]
    return found if is_integer(parameter) else [rounded(v) for v in found]


def _count(parameter: sections.SearchParameter) -> int:
    """Number of values of a stepped range."""
    low, high, step = parameter.min, parameter.max, parameter.step
    steps = math.log(high / low) / math.log(step) if parameter.log else (high - low) / step
    # A millionth of a step is allowed for rounding: five steps of 0.1 reach 0.5.
    return int(steps + 1e-6) + 1


def is_integer(parameter: sections.SearchParameter) -> bool:
    """Whether a range is one of whole numbers: its ends and its step are."""
    return all(isinstance(v, int) for v in (parameter.min, parameter.max, parameter.step) if v is not None)


def is_ordered(parameter: sections.SearchParameter) -> bool:
    """Whether a key's values are numbers, so that near values can be expected to do similarly."""
    known = levels(parameter)
    return known is None or all(isinstance(v, int | float) and not isinstance(v, bool) for v in known)


def decode(parameter: sections.SearchParameter, raw: Any) -> Any:
    """The recipe's value of what an engine proposed: the index of a level, or a number in the range."""
    known = levels(parameter)
    if known is not None:
        return known[int(raw)]
    return int(raw) if is_integer(parameter) else min(max(rounded(raw), parameter.min), parameter.max)


def rounded(value: float) -> float:
    """Six significant digits are enough to search by, and can be read."""
    return float(f"{value:.6g}")


def wanted(parameter: sections.SearchParameter, key: str) -> list:
    """Values of another key under which this one is active."""
    values = parameter.when[key]
    return list(values) if isinstance(values, list | tuple) else [values]


def is_active(parameter: sections.SearchParameter, values: dict[str, Any]) -> bool:
    """Whether a key's condition holds among the values of the active keys before it."""
    return all(key in values and _among(values[key], wanted(parameter, key)) for key in parameter.when)


def conditions_of(space: Space, key: str) -> dict[str, list]:
    """Under which values of which keys before it a key is active: those that it depends on, directly or not."""
    found: dict[str, list] = {}
    for other in space[key].when:
        for name, values in {**conditions_of(space, other), other: wanted(space[key], other)}.items():
            found[name] = [v for v in levels(space[name]) if _among(v, values) and _among(v, found.get(name, [v]))]
    return {name: found[name] for name in space if name in found}


def active_values(space: Space, values: dict[str, Any]) -> dict[str, Any]:
    """Of a trial's values those of the active keys, without what others have otherwise."""
    found: dict[str, Any] = {}
    for key, parameter in space.items():
        if key in values and is_active(parameter, found):
            found[key] = values[key]
    return found


def resolve(space: Space, raw: dict[str, Any]) -> dict[str, Any]:
    """The overrides that a proposal stands for: active keys in their order, and those with a value otherwise."""
    active: dict[str, Any] = {}
    found: dict[str, Any] = {}
    for key, parameter in space.items():
        if is_active(parameter, active):
            active[key] = found[key] = decode(parameter, 0 if parameter.is_fixed else raw[key])
        elif parameter.has_otherwise:
            found[key] = parameter.otherwise
    return found


def combinations(space: Space) -> int | None:
    """Number of different points of a space; None where a range is continuous."""
    deciding = {key for parameter in space.values() for key in parameter.when}

    def count(keys: tuple[str, ...], values: dict[str, Any]) -> int | None:
        if not keys:
            return 1
        key, rest = keys[0], keys[1:]
        parameter = space[key]
        if not is_active(parameter, values):
            return count(rest, values)
        known = levels(parameter)
        if key in deciding:
            parts = [count(rest, {**values, key: value}) for value in known]
            return None if None in parts else sum(parts)
        if known is None and not is_integer(parameter):
            return None
        below = count(rest, values)
        own = len(known) if known is not None else parameter.max - parameter.min + 1
        return None if below is None else own * below

    return count(tuple(space), {})


def check(recipe: recipes.Recipe) -> None:
    """Refuse a search that cannot work, before anything slow: every end of every range must be a valid override.

    Raises:
        RequestError: What is wrong, with its key.
    """
    settings = recipe.search
    if not settings.space:
        raise RequestError(f"{recipe.name or 'the recipe'} has no search.space; its form is {FORM}")
    if all(parameter.is_fixed for parameter in settings.space.values()):
        raise RequestError("search.space: nothing in it varies; give some key choices, or min and max")
    for key, parameter in settings.space.items():
        if parameter.step is not None:
            _check_step(key, parameter)
    _check_method(recipe)
    if both := set(settings.space) & set(settings.during):
        raise RequestError(f"search.during: {both.pop()} is in search.space too")
    base = recipe.override(settings.during)
    for key in settings.space:
        _check_condition(settings.space, key)
        _check_values(base, key)
    # The objective is what each trial monitors, so what holds for one holds for the other.
    base.override({"train.monitor": settings.objective or recipe.train.monitor}).check()


def _check_method(recipe: recipes.Recipe) -> None:
    """The tuner and the pruner must be the engine's, and must fit what is searched."""
    settings = recipe.search
    for kind, known in _ENGINES[settings.engine].items():
        if (chosen := getattr(settings, kind)) not in known:
            other = next(e for e, has in _ENGINES.items() if chosen in has[kind])
            raise RequestError(
                f"search.{kind} {chosen} belongs to search.engine {other}; {settings.engine} has {', '.join(known)}"
            )
    if settings.tuner == "hyperband":
        # In control an epoch is `train.evaluate_every` of `train.steps`.
        if length := settings.space.keys() & {"train.epochs", "train.steps"}:
            raise RequestError(f"search.space: hyperband sets the epochs itself; take {length.pop()} out of the space")
        if settings.min_epochs > recipe.train.epochs:
            raise RequestError(
                f"search.min_epochs is {settings.min_epochs}, more than the {recipe.train.epochs} of train.epochs"
            )
    if settings.pruner != "none":
        if settings.tuner == "hyperband":
            raise RequestError("search.pruner: hyperband ends hopeless trials itself; set it to none")
        if settings.seeds > 1:
            raise RequestError("search.pruner looks at one training of a trial; set search.seeds to 1")
    if settings.engine == "optuna" and settings.tuner == "grid":
        for key, parameter in settings.space.items():
            if levels(parameter) is None and not is_integer(parameter):
                raise RequestError(f"search.space: a grid needs a step or choices for {key}")


def _check_step(key: str, parameter: sections.SearchParameter) -> None:
    if parameter.step <= (1 if parameter.log else 0):
        least = "1, a factor, because it is logarithmic" if parameter.log else "0"
        raise RequestError(f"search.space: the step of {key} must be above {least}")
    if _count(parameter) > _MOST_LEVELS:
        raise RequestError(
            f"search.space: the step of {key} makes {_count(parameter):,} values of its range, and {_MOST_LEVELS:,} is "
            "the most; without a step the range is continuous"
        )


def _check_condition(space: Space, key: str) -> None:
    before = list(space)[: list(space).index(key)]
    for other in space[key].when:
        if other not in before:
            hint = nearest(other, before) if other not in space else ""
            raise RequestError(f"search.space: {key} depends on {other!r}, which does not stand before it{hint}")
        known = None if space[other].is_fixed else levels(space[other])
        if known is None:
            raise RequestError(f"search.space: {key} depends on {other}, which needs choices or a step for that")
        for value in wanted(space[key], other):
            if not _among(value, known):
                raise RequestError(f"search.space: {key} depends on {other} being {value!r}, which it never is")
    for other, values in conditions_of(space, key).items():
        if not values:
            raise RequestError(f"search.space: {key} is in no trial: no value of {other} fits all that it depends on")


def _check_values(recipe: recipes.Recipe, key: str) -> None:
    """Try each end of a key's values on the recipe, under the first values that its condition takes, and otherwise."""
    space, parameter = recipe.search.space, recipe.search.space[key]
    deciding = _context(space, key)
    ends = levels(parameter) or [parameter.min, parameter.max]
    if parameter.min is not None:
        ends = [ends[0], ends[-1]]  # as they are proposed: no whole numbers where the step is none
    tried = [(deciding, value) for value in ends]
    if parameter.has_otherwise and (without := _context_without(space, key)) is not None:
        tried.append((without, parameter.otherwise))
    for context, value in tried:
        recipe.override({**{k: context[k] for k in space if k in context}, key: value})


def _context(space: Space, key: str) -> dict[str, Any]:
    """Values of the keys that a key depends on, directly or not, under which it is active."""
    return {other: values[0] for other, values in conditions_of(space, key).items()}


def _context_without(space: Space, key: str) -> dict[str, Any] | None:
    """Values under which a key is inactive, its own left out; None where it is always active."""
    for other in space[key].when:
        unwanted = [v for v in levels(space[other]) if not _among(v, wanted(space[key], other))]
        if unwanted:
            return {**_context(space, other), other: unwanted[0]}
        if (found := _context_without(space, other)) is not None:
            return found | ({other: space[other].otherwise} if space[other].has_otherwise else {})
    return None


def _among(value: Any, values: list) -> bool:
    """Whether a value is one of some; true is not 1 here."""
    return any(isinstance(v, bool) == isinstance(value, bool) and v == value for v in values)
