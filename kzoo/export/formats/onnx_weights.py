"""Large weights of ONNX files, written once for several graphs.

A file of ONNX holds one graph, and ONNX lets a tensor's bytes lie in another file, by offset and length. So the first
file holds its weights itself, as any ONNX file does, each at a round offset, and further graphs of the same network
point into it instead of repeating them. The first file opens anywhere by itself; the others open beside it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SMALLEST = 1024  # bytes of a tensor that is worth a reference; shapes are inferred from smaller ones
ALIGNMENT = 64  # bytes, for runtimes that map a file and compute on it as it lies

# Numbers of fields in onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA, _TENSOR_DOC_STRING = 7, 5, 9, 12


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes are."""

    file: str
    offset: int
    length: int


Places = dict[bytes, Place]  # by digest of the bytes


def write(proto, path: Path, places: Places) -> None:
    """Write a model as a file that takes its large tensors from files beside it, as far as those have them.

    Its other large tensors come last in it, at round offsets.

    Args:
        proto: The ``onnx.ModelProto``.
        path: The file.
        places: Where large tensors are in the files that were written before; this file's own are added.
    """
    import onnx

    lift(proto)
    model, graph = onnx.ModelProto(), onnx.GraphProto()
    model.CopyFrom(proto)
    graph.CopyFrom(proto.graph)
    model.ClearField("graph")
    graph.ClearField("initializer")
    own = []
    for tensor in proto.graph.initializer:
        if not _is_large(tensor):
            graph.initializer.add().CopyFrom(tensor)
        elif place := places.get(_digest(tensor)):
            _refer(graph.initializer.add(), tensor, place)
        else:
            own.append(tensor)
    with open(path, "wb") as file:
        for before, tensor in _pieces(model.SerializeToString(), graph.SerializeToString(), own):
            file.write(before)
            if tensor is not None:
                places[_digest(tensor)] = Place(path.name, file.tell(), len(tensor.raw_data))
                file.write(tensor.raw_data)


def _refer(new, tensor, place: Place) -> None:
    import onnx

    new.CopyFrom(tensor)
    new.ClearField("raw_data")
    new.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", place.file), ("offset", place.offset), ("length", place.length)):
        new.external_data.add(key=key, value=str(value))


def _pieces(model: bytes, graph: bytes, own: list) -> list[tuple[bytes, Any]]:
    """A file's parts: bytes, and the tensor whose own bytes come behind them, None behind the first."""
    # The offsets depend on how long the number of the graph's bytes is, and that on the filling between the tensors.
    size = len(graph) + sum(t.ByteSize() for t in own)
    while True:
        head = model + _opening(_MODEL_GRAPH, size) + graph
        pieces = list(_aligned(own, len(head)))
        found = len(graph) + sum(len(before) + len(t.raw_data) for before, t in pieces)
        if found == size:
            return [(head, None), *pieces]
        size = found


def lift(proto) -> None:
    """Make large tensors of the bodies of loops and branches initialisers of the whole graph, which bodies can see.

    One whose name is used twice stays where it is.
    """
    names: dict[str, int] = {}
    for graph in _graphs(proto.graph):
        for name in _defined(graph):
            names[name] = names.get(name, 0) + 1
    for graph in list(_graphs(proto.graph)):
        if graph is not proto.graph:
            _lift_initializers(graph, proto.graph, names)
        _lift_constants(graph, proto.graph, names)


def _lift_initializers(graph, whole, names: dict[str, int]) -> None:
    for place in reversed(range(len(graph.initializer))):
        tensor = graph.initializer[place]
        if _is_large(tensor) and names[tensor.name] == 1:
            whole.initializer.add().CopyFrom(tensor)
            del graph.initializer[place]


def _lift_constants(graph, whole, names: dict[str, int]) -> None:
    for place in reversed(range(len(graph.node))):
        node = graph.node[place]
        if node.op_type != "Constant" or names[node.output[0]] > 1:
            continue
        tensor = node.attribute[0].t
        if node.attribute[0].name == "value" and _is_large(tensor):
            lifted = whole.initializer.add()
            lifted.CopyFrom(tensor)
            lifted.name = node.output[0]
            del graph.node[place]


def _graphs(graph) -> Iterator:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from _graphs(inner)


def _defined(graph) -> Iterator[str]:
    """Names that a graph gives to values."""
    yield from {t.name for t in graph.initializer} | {i.name for i in graph.input}
    for node in graph.node:
        yield from node.output


def _is_large(tensor) -> bool:
    return len(tensor.raw_data) >= SMALLEST


def _digest(tensor) -> bytes:
    return hashlib.sha256(tensor.raw_data).digest()


def _aligned(tensors, offset: int) -> Iterator[tuple[bytes, object]]:
    """Each tensor with the bytes of its field that go before its own bytes, which fill up to the alignment."""
    for tensor in tensors:
        known = type(tensor)(dims=tensor.dims, data_type=tensor.data_type, name=tensor.name)
        for padding in (0, *range(2, ALIGNMENT + 4)):
            inner = known.SerializeToString()
            if padding:
                # A remark of blanks; with its two bytes of tag and length it is `padding` long.
                inner += _opening(_TENSOR_DOC_STRING, padding - 2) + b" " * (padding - 2)
            inner += _opening(_TENSOR_RAW_DATA, len(tensor.raw_data))
            before = _opening(_GRAPH_INITIALIZER, len(inner) + len(tensor.raw_data)) + inner
            if (offset + len(before)) % ALIGNMENT == 0:
                break
        yield before, tensor
        offset += len(before) + len(tensor.raw_data)


def _opening(field: int, length: int) -> bytes:
    """Tag and length that a field of bytes begins with, in protocol buffers' wire format."""
    return _varint(field << 3 | 2) + _varint(length)


def _varint(value: int) -> bytes:
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
