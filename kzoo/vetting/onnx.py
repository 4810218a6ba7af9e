"""ONNX files, whose graphs may name other files as their weights and make tensors of any size of a few numbers."""

import math
from collections.abc import Iterator
from pathlib import Path

from kzoo.errors import RequestError
from kzoo.vetting.limits import MOST_TENSOR

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
_SHORT = 64  # values of a tensor that may say a shape
_ENDLESS = 1 << 63  # above all sizes, and below infinity
# Operators that make a tensor of a size that one of their inputs says, by that input's place; of a size that an
# attribute says; and those that hand sizes on.
_MAKERS = {"ConstantOfShape": 0, "Expand": 1, "Tile": 1, "OneHot": 1, "Range": 1, "Resize": 3}
_RANDOM = {"RandomNormal", "RandomUniform"}
_PASSING = {"Identity", "Cast", "Reshape", "Squeeze", "Unsqueeze", "Flatten"}


def check_onnx(path: Path, beside: tuple[str, ...] = ()) -> None:
    """Refuse an ONNX file that names other files, has operators of others' making or declares tensors beyond measure.

    Sizes are followed from the file's numbers through the operators that hand them on. What arithmetic makes of them,
    or of an input's values, is only known once it runs.

    Args:
        path: The file.
        beside: Names of files in the same folder that may hold some of its tensors.

    Raises:
        RequestError: It does, or is damaged, or has parts that no file of the zoo has: functions and a training of its
            own, sparse tensors.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, ValueError) as error:
        raise RequestError(f"{path} cannot be opened: it is no ONNX file ({error})") from None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    for opset in model.opset_import:
        if opset.domain not in _DOMAINS:
            raise RequestError(f"{path} takes operators of {opset.domain!r}, which are not loaded")
    if model.functions or model.training_info:
        part = "functions" if model.functions else "a training"
        raise RequestError(f"{path} brings {part} of its own, which no file of the zoo has: it is not loaded")
    for graph in _graphs(path, model.graph):
        for tensor in _tensors(path, graph):
            if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
                _check_external(path, tensor, beside)
            else:
                _check_declared(path, tensor)
    _check_sizes(path, model.graph, {})


def _graphs(path: Path, graph) -> Iterator:
    """The graph and those within it."""
    if graph.sparse_initializer:
        raise RequestError(f"{path} has sparse tensors, which are not loaded")
    yield graph
    for node in graph.node:
        for inner in _inner(node):
            yield from _graphs(path, inner)


def _inner(node) -> Iterator:
    """Bodies of a loop and branches of a choice."""
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else []
        yield from attribute.graphs


def _tensors(path: Path, graph) -> Iterator:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
                raise RequestError(f"{path} has sparse tensors ({node.name}), which are not loaded")
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_external(path: Path, tensor, beside: tuple[str, ...]) -> None:
    """A tensor's bytes may lie in the files beside and nowhere else, as many as its shape has."""
    from onnx import helper

    said = {entry.key: entry.value for entry in tensor.external_data}
    other = said.get("location", "")
    if other not in beside:
        raise RequestError(f"{path} keeps {tensor.name} outside itself")
    try:
        wanted = math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        raise RequestError(f"{path} declares {tensor.name} of a type that ONNX does not have") from None
    numbers = [said.get(key, "") for key in ("offset", "length")]
    if not all(n.isdecimal() for n in numbers) or int(numbers[1]) != wanted:
        raise RequestError(f"{path} does not say where in {other} it keeps {tensor.name}")
    if sum(map(int, numbers)) > path.with_name(other).stat().st_size:
        raise RequestError(f"{path} keeps {tensor.name} behind the end of {other}")


def _check_declared(path: Path, tensor) -> None:
    """A tensor has as many values as it says; the smallest are half a byte."""
    values = math.prod(tensor.dims)
    if min(tensor.dims, default=1) < 0 or values > 2 * tensor.ByteSize():
        raise RequestError(f"{path} declares {tensor.name} with {values:,} values, which it does not hold")


def _check_sizes(path: Path, graph, outer: dict[str, list[int]]) -> None:
    """No node may make a tensor beyond measure of a few numbers of the file; graphs within see the values around them.

    ONNX's own inference of shapes would not do: with a hostile file it fills the memory itself.
    """
    known = {**outer, **{t.name: _numbers(path, t) for t in graph.initializer if _is_short(t)}}
    for node in graph.node:
        attributes = {a.name: a for a in node.attribute}
        given = [known.get(name, []) for name in node.input]
        if node.op_type == "Constant":
            known |= dict.fromkeys(node.output, _constant(path, node))
        elif node.op_type in _PASSING:
            known |= dict.fromkeys(node.output, given[0] if given else [])
        elif node.op_type == "Concat":
            joined = [n for numbers in given for n in numbers]
            # No shape is longer; a chain of joints of two could be of any length.
            known |= dict.fromkeys(node.output, joined if len(joined) <= _SHORT else [])
        shape = list(attributes["shape"].ints) if node.op_type in _RANDOM and "shape" in attributes else []
        place = _MAKERS.get(node.op_type, len(given))
        shape += given[place] if place < len(given) else []
        values = math.prod(max(1, abs(n)) for n in shape)
        if 4 * values > MOST_TENSOR:
            raise RequestError(f"{path} makes a tensor of {values:,} values ({node.name or node.op_type})")
        for inner in _inner(node):
            _check_sizes(path, inner, known)


def _is_short(tensor) -> bool:
    return math.prod(tensor.dims) <= _SHORT and not tensor.external_data


def _constant(path: Path, node) -> list[int]:
    for attribute in node.attribute:
        if attribute.HasField("t"):
            return _numbers(path, attribute.t) if _is_short(attribute.t) else []
        found = [attribute.i, *attribute.ints] if attribute.name in ("value_int", "value_ints") else []
        return [n for n in found if n]
    return []


def _numbers(path: Path, tensor) -> list[int]:
    """The values of a short tensor as whole numbers; none of one of strings or truths."""
    from onnx import numpy_helper

    try:
        values = numpy_helper.to_array(tensor).ravel()
        return [int(v) for v in values.tolist() if abs(v) < _ENDLESS] if values.dtype.kind in "iuf" else []
    except (ValueError, TypeError, KeyError) as error:
        raise RequestError(f"{path} cannot be opened: {tensor.name} is damaged ({error})") from None
