"""TensorFlow Serving's REST form of requests and answers, to arrays and back.

https://www.tensorflow.org/tfx/serving/api_rest: ``instances`` (by row) or ``inputs`` (by column), binary strings as
``{"b64": ...}``, outputs whose name ends with ``_bytes`` likewise.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.errors import RequestError, nearest
from kzoo.serving.doors import DEFAULT, TYPES, Arrays, Door, Spec
from kzoo.serving.refused import Refused

_KEYS = {"instances", "inputs", "signature_name"}
# Of strings of an open shape.
_MOST_AXES = 8


@dataclass(frozen=True)
class Query:
    """A request as the model takes it.

    Attributes:
        door: The door's name.
        inputs: Arrays by name, of the door's types and shapes.
        rows: Examples in it; 1 where nothing is batched.
        by_row: Whether it came as ``instances`` and is answered as ``predictions``.
    """

    door: str
    inputs: Arrays
    rows: int
    by_row: bool


def read(document: Any, doors: Mapping[str, Door]) -> Query:
    """Understand a request's JSON.

    Raises:
        Refused: It is not of the form, names no door, or its values do not fit the door.
    """
    if not isinstance(document, dict) or ("instances" in document) == ("inputs" in document):
        raise Refused(400, 'the body must be a JSON object with either "instances" (by row) or "inputs" (by column)')
    for key in document:
        if key not in _KEYS:
            raise Refused(400, f"the body has an unknown key {_named(key, _KEYS)}")
    name = document.get("signature_name") or DEFAULT
    if not isinstance(name, str) or name not in doors:
        raise Refused(400, f"the model has no signature {_named(name, doors)}")
    specs, by_row = doors[name].inputs, "instances" in document
    columns = _from_rows(document["instances"], specs) if by_row else _from_columns(document["inputs"], specs)
    _check_names(columns, specs)
    inputs = {k: _array(k, columns[k], spec) for k, spec in specs.items()}
    counts = {k: len(inputs[k]) for k, spec in specs.items() if spec.batched}
    if len(set(counts.values())) > 1:
        raise Refused(400, f"the inputs hold different numbers of examples: {counts}")
    rows = next(iter(counts.values()), 1)
    if rows == 0:
        raise Refused(400, "the request holds no example")
    return Query(name, inputs, rows, by_row)


def write(query: Query, outputs: Arrays) -> dict[str, Any]:
    """The answer to a request, ready for JSON.

    Raises:
        Refused: It came by row, and the model gives something that is not one for each.
    """
    for name, values in outputs.items():
        if query.by_row and (values.ndim == 0 or len(values) != query.rows):
            raise Refused(400, f'the output {name!r} is not one for each: send "inputs" instead of "instances"')
    shown = {name: _shown(name, values) for name, values in outputs.items()}
    if not query.by_row:
        return {"outputs": shown if len(shown) > 1 else next(iter(shown.values()))}
    if len(shown) == 1:
        return {"predictions": next(iter(shown.values()))}
    return {"predictions": [dict(zip(shown, row, strict=True)) for row in zip(*shown.values(), strict=True)]}


def _named(name: Any, known: Iterable[str]) -> str:
    """A name that there is not and what may have been meant, the end of a sentence."""
    # A client may call something by all of its body, which would take long to compare.
    name = str(name)[:100]
    return f"{name!r}{nearest(name, known)}"


def _from_rows(instances: Any, specs: Mapping[str, Spec]) -> dict[str, Any]:
    """Columns of rows; a row is a value where the door has one input, or a mapping."""
    if not isinstance(instances, list) or not instances:
        raise Refused(400, '"instances" must be a list with at least one example')
    fixed = [k for k, spec in specs.items() if not spec.batched]
    if fixed:
        raise Refused(400, f'the input {fixed[0]!r} is one for all examples: send "inputs" instead of "instances"')
    if len(specs) == 1 and not _is_mapping(instances[0]):
        return {next(iter(specs)): instances}
    if not all(_is_mapping(row) and row.keys() == instances[0].keys() for row in instances):
        raise Refused(400, f"each of the instances must be an object with the keys {list(specs)}")
    return {k: [row[k] for row in instances] for k in instances[0]}


def _from_columns(inputs: Any, specs: Mapping[str, Spec]) -> dict[str, Any]:
    if _is_mapping(inputs):
        return inputs
    if len(specs) == 1:
        return {next(iter(specs)): inputs}
    raise Refused(400, f'"inputs" must be an object with the keys {list(specs)}')


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and value.keys() != {"b64"}


def _check_names(columns: Mapping[str, Any], specs: Mapping[str, Spec]) -> None:
    for name in columns:
        if name not in specs:
            raise Refused(400, f"the signature has no input {_named(name, specs)}")
    for name in specs:
        if name not in columns:
            raise Refused(400, f"the input {name!r} is missing")


def _array(name: str, value: Any, spec: Spec) -> np.ndarray:
    """One input as an array of its type and shape, in its range."""
    if spec.dtype not in TYPES:
        raise Refused(400, f"the input {name!r} is of the type {spec.dtype}, which cannot be sent as JSON")
    array = _strings(name, value, spec.shape) if spec.dtype == "string" else _numbers(name, value, spec.dtype)
    if spec.shape is not None:
        array = _shaped(name, array, spec.shape)
    if spec.range is not None:
        try:
            spec.range.check(f"the input {name!r}", array)
        except RequestError as error:
            raise Refused(400, str(error)) from None
    return array


def _shaped(name: str, array: np.ndarray, shape: tuple[int | None, ...]) -> np.ndarray:
    """An array, if it has a shape."""
    given, rest = list(array.shape), shape[array.ndim :]
    if not array.size and None not in rest:
        # JSON cannot say how large would be what an empty list holds none of.
        array = array.reshape(*given, *rest)
    if array.ndim != len(shape) or any(w not in (None, h) for w, h in zip(shape, array.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise Refused(400, f"the input {name!r} has the shape {given}, not [{wanted}]")
    return array


def _numbers(name: str, value: Any, dtype: str) -> np.ndarray:
    # As objects at first: with a string among them NumPy would make each number a string as long as that one.
    given, wanted = np.array(value, object), np.dtype(dtype)
    kinds, taken = set(map(type, given.flat)), {"f": {int, float}, "i": {int}, "u": {int}, "b": {bool}}[wanted.kind]
    if list in kinds:
        raise Refused(400, f"the input {name!r} has rows of different lengths")
    if not kinds <= taken:
        what = {"f": "numbers", "i": "whole numbers", "u": "whole numbers", "b": "true or false"}[wanted.kind]
        raise Refused(400, f"the input {name!r} takes {what}")
    if wanted.kind in "iu" and given.size:
        low, high = np.iinfo(wanted).min, np.iinfo(wanted).max
        if given.min() < low or given.max() > high:
            raise Refused(400, f"the input {name!r} takes whole numbers from {low} to {high}")
    with np.errstate(over="ignore"):
        array = given.astype(wanted)
    if wanted.kind == "f" and not np.isfinite(array).all():
        raise Refused(400, f"the input {name!r} holds a number that {dtype} cannot")
    return array


def _strings(name: str, value: Any, shape: tuple[int | None, ...] | None) -> np.ndarray:
    array = np.array(_bytes(name, value, _MOST_AXES if shape is None else len(shape)), object)
    if any(isinstance(v, list) for v in array.flat):
        raise Refused(400, f"the input {name!r} has rows of different lengths")
    return array


def _bytes(name: str, value: Any, axes: int = 0) -> Any:
    """A string's bytes, or lists of them, nested so deep at most."""
    if axes and isinstance(value, list):
        return [_bytes(name, v, axes - 1) for v in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if not isinstance(value, dict) or value.keys() != {"b64"} or not isinstance(value["b64"], str):
        raise Refused(400, f'the input {name!r} takes strings, or bytes as {{"b64": "..."}}')
    try:
        return base64.b64decode(value["b64"], validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, f"the input {name!r} holds text that is not base64") from None


def _shown(name: str, values: np.ndarray) -> Any:
    if values.dtype.kind not in "OSU":
        return values.tolist()
    return _text(values.tolist(), name.endswith("_bytes"))


def _text(value: Any, binary: bool) -> Any:
    if isinstance(value, list):
        return [_text(v, binary) for v in value]
    if binary:
        return {"b64": base64.b64encode(value).decode()}
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
