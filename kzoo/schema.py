"""What the sections of a recipe take, by their annotations, and what is wrong with values, in their writer's words."""

import functools
import inspect
import types
import typing
from typing import Any

import pydantic

from kzoo.errors import nearest
from kzoo.sections import Settings


def explain(kind: type[Settings], values: dict, error: pydantic.ValidationError) -> str:
    """One sentence for the first problem: the dotted key, what is wrong, and the nearest valid key.

    Args:
        kind: What the values should have been.
        values: What was given.
        error: What pydantic found.
    """
    problems = [(*_locate(kind, values, p), p) for p in error.errors(include_url=False)]
    first = problems[0][0]
    # Each alternative of a union has its own complaint: what came furthest was meant, and equals are told together.
    near = [p for p in problems if p[0][: len(first)] == first]
    path, sections, problem = max(near, key=lambda p: len(p[0]))
    if problem["type"] == "extra_forbidden":
        place = ".".join(path[:-1]) or "the recipe's top level"
        return f"unknown key {path[-1]!r} in {place}{nearest(path[-1], fields(sections[-2]) or ())}"
    key = ".".join(path) or "the recipe"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "union_tag_not_found":
        return f"{key} has no name{nearest('', _tags(sections[-1]))}"
    if problem["type"] == "union_tag_invalid":
        tag = problem["ctx"]["tag"]
        return f"{key}: there is none of the name {tag!r}{nearest(tag, _tags(sections[-1]))}"
    messages = dict.fromkeys(p["msg"].removeprefix("Value error, ") for other, _, p in near if other == path)
    message = " or ".join(m if n == 0 else m.removeprefix("Input should be ") for n, m in enumerate(messages))
    given = problem.get("input")
    shown = f" (given: {given!r})" if not isinstance(given, dict) and problem["type"] != "value_error" else ""
    return f"{key}: {message[:1].lower()}{message[1:]}{shown}"


def _locate(kind: type[Settings], values: dict, problem) -> tuple[list[str], list]:
    """Keys on the way to a problem, and what may stand at each of them, the recipe's own kind first.

    A problem's place also has words that are pydantic's and none of the user's: a union's member, or its tag.
    """
    path, sections, given = [], [kind], values
    for part in problem["loc"]:
        if (isinstance(given, dict) and part in given) or (isinstance(given, list) and isinstance(part, int)):
            path.append(str(part))
            sections.append(_step(sections[-1], part))
            given = given[part]
        elif part in _tags(sections[-1]):
            sections[-1] = _tags(sections[-1])[part]
    if problem["type"] == "missing":
        path.append(str(problem["loc"][-1]))
    return path, sections


def _alternatives(annotation) -> list:
    """Members of a union, without None; any other annotation alone."""
    if typing.get_origin(annotation) is typing.Annotated:
        return _alternatives(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return [a for member in typing.get_args(annotation) for a in _alternatives(member)]
    return [] if annotation is type(None) else [annotation]


def classes(annotation) -> list[type[Settings]]:
    """Settings classes that an annotation allows, not those of items."""
    return [a for a in _alternatives(annotation) if inspect.isclass(a) and issubclass(a, Settings)]


def fields(annotation) -> dict | None:
    """Fields of the Settings classes that an annotation allows; None where there are none."""
    found = classes(annotation)
    return functools.reduce(lambda a, b: a | b, (c.model_fields for c in found)) if found else None


def takes_any_key(annotation) -> bool:
    """Whether an annotation allows mappings whose keys are the user's own."""
    return any(a is Any or a is dict or typing.get_origin(a) is dict for a in _alternatives(annotation))


def _tags(annotation) -> dict[str, type[Settings]]:
    """Alternatives of a section by their tag, which pydantic adds to an error's place though no user wrote it."""
    found = classes(annotation)
    return {typing.get_args(c.model_fields["name"].annotation)[0]: c for c in found} if len(found) > 1 else {}


def _step(annotation, part: str | int):
    """What may stand at a key, or in an item, of what an annotation allows."""
    known = fields(annotation) or {}
    if part in known:
        return known[part].annotation
    for allowed in _alternatives(annotation):
        if typing.get_origin(allowed) is dict:
            return typing.get_args(allowed)[1]
        if typing.get_origin(allowed) in (list, tuple):
            return typing.get_args(allowed)[0]
    return Any
