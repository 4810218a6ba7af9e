"""Large weights of ONNX files, written once for several graphs.

A file of ONNX holds one graph, and ONNX lets a tensor's bytes lie in another file, by offset and length. So the main
file holds its weights itself, as any ONNX file does, each at a round offset, and further graphs of the same network
point into the main file instead of repeating them. The main file opens anywhere by itself; the others open beside it.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SMALLEST = 1024  # bytes of a tensor that is worth a reference; shapes are inferred from smaller ones
ALIGNMENT = 64  # bytes, for runtimes that map a file and compute on it as it lies

# Numbers of fields in onnx.proto.
_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_RAW_DATA, _TENSOR_DOC_STRING = 7, 5, 9, 12


@dataclass(frozen=True)
class Place:
    """Where a tensor's bytes are in the main file."""

    offset: int
    length: int


def write_main(proto, path: Path) -> dict[bytes, Place]:
    """Write a model as one file, its large tensors last and aligned.

    Args:
        proto: The ``onnx.ModelProto``.
        path: The file.

    Returns:
        Where the large tensors are, by digest of their bytes.
    """
    import onnx

    lift(proto)
    small, graph = onnx.ModelProto(), onnx.GraphProto()
    small.CopyFrom(proto)
    graph.CopyFrom(proto.graph)
    small.ClearField("graph")
    graph.ClearField("initializer")
    large = [t for t in proto.graph.initializer if _is_large(t)]
    graph.initializer.extend(t for t in proto.graph.initializer if not _is_large(t))
    head, start = small.SerializeToString(), graph.SerializeToString()
    # The offset depends on how long the number of the graph's bytes is, and that on the padding.
    size = len(start) + sum(t.ByteSize() for t in large)
    while True:
        opening = head + _opening(_MODEL_GRAPH, size)
        tensors = list(_aligned(large, len(opening) + len(start)))
        found = len(start) + sum(len(before) + len(t.raw_data) for before, t in tensors)
        if found == size:
            break
        size = found
    places, offset = {}, len(opening) + len(start)
    with open(path, "wb") as file:
        file.write(opening + start)
        for before, tensor in tensors:
            file.write(before + tensor.raw_data)
            offset += len(before) + len(tensor.raw_data)
            places[_digest(tensor)] = Place(offset - len(tensor.raw_data), len(tensor.raw_data))
    return places


def write_beside(proto, path: Path, main: str, places: dict[bytes, Place]) -> None:
    """Write a model whose large tensors are taken from the main file, as far as that has them.

    Args:
        proto: The ``onnx.ModelProto``; it is changed.
        path: The file, in the folder of the main file.
        main: The main file's name.
        places: What `write_main` returned.
    """
    import onnx

    lift(proto)
    for tensor in proto.graph.initializer:
        place = places.get(_digest(tensor)) if _is_large(tensor) else None
        if place is not None:
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in (("location", main), ("offset", place.offset), ("length", place.length)):
                tensor.external_data.add(key=key, value=str(value))
    path.write_bytes(proto.SerializeToString())


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
        known = type(tensor)()
        known.CopyFrom(tensor)
        known.ClearField("raw_data")
        known.ClearField("doc_string")
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
