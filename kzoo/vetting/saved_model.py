"""SavedModels, of which TensorFlow runs what they bring.

Resource initialisers run while one is loaded, and operations may write files or call Python. So all operations are
compared with a list of what networks are made of; what is not on the list is refused, whatever it is. Those that write
and read checkpoints come with every SavedModel, for those who want to save it again; nothing that runs may reach them.

Only what TensorFlow saves since 2.0 is loaded, one graph with a graph of objects: of anything else TensorFlow runs
operations that the file names while it loads it.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from kzoo.errors import RequestError
from kzoo.vetting.limits import MOST_GRAPH, MOST_TENSOR
from kzoo.vetting.operations import OPERATIONS

_FOLDERS = {"variables", "assets", "assets.extra"}
_FILES = {"saved_model.pb", "fingerprint.pb"}
_WRITING = {"SaveV2", "MergeV2Checkpoints"}
_CHECKPOINTS = _WRITING | {"RestoreV2", "ShardedFilename", "DisableCopyOnRead"}
_CALLS = {"PartitionedCall", "StatefulPartitionedCall"}


def check_saved_model(folder: Path) -> None:
    """Refuse a SavedModel that could do more than compute.

    Raises:
        RequestError: It is damaged, has an operation that is not among those that networks are made of, lets anything
            that runs reach files, is of TensorFlow's first form, declares tensors beyond measure, or comes with files
            that belong to no SavedModel.
    """
    _check_files(folder)
    graph = _graph(folder)
    functions = {f.signature.name: f for f in graph.graph_def.library.function}
    if len(functions) != len(graph.graph_def.library.function):
        raise RequestError(f"{folder} defines a function twice")
    for node in _nodes(graph):
        if node.op not in OPERATIONS and node.op not in _CHECKPOINTS and node.op not in functions:
            raise RequestError(
                f"{folder} has the operation {node.op} ({node.name}), which is none that the zoo's networks are "
                "made of: it is not loaded, because TensorFlow runs what a SavedModel brings"
            )
        _check_constants(folder, node)
    _check_checkpoints(folder, graph, functions)
    for thing in graph.object_graph_def.nodes:
        if thing.WhichOneof("kind") in ("resource", "captured_tensor"):
            raise RequestError(f"{folder} brings a resource of its own, such as a table, which is not loaded")
        if thing.WhichOneof("kind") == "variable":
            _check_size(folder, thing.variable.name, thing.variable.shape, thing.variable.dtype)


def _check_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        place = path.relative_to(folder).parts
        if path.is_symlink():
            raise RequestError(f"{path} is a link, which no SavedModel of the zoo has")
        if place[0] not in (_FILES if len(place) == 1 and path.is_file() else _FOLDERS):
            raise RequestError(f"{path} belongs to no SavedModel of the zoo")


def _graph(folder: Path):
    """The one graph of a SavedModel of today's form."""
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / "saved_model.pb"
    try:
        content = path.read_bytes() if path.stat().st_size <= MOST_GRAPH else None
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    if content is None:
        raise RequestError(f"{path} has {path.stat().st_size:,} bytes, and a graph has at most {MOST_GRAPH:,}")
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise RequestError(f"{path} is no SavedModel, or damaged") from None
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].HasField("object_graph_def"):
        raise RequestError(
            f"{folder} is no SavedModel of today's form, one graph with its objects: it is not loaded, because of "
            "others TensorFlow runs operations that the file names"
        )
    return model.meta_graphs[0]


def _nodes(graph) -> Iterator:
    yield from graph.graph_def.node
    for function in graph.graph_def.library.function:
        yield from function.node_def


def _check_constants(folder: Path, node) -> None:
    """A constant of one value may declare any number of them."""
    for value in node.attr.values():
        for tensor in [value.tensor] if value.HasField("tensor") else value.list.tensor:
            _check_size(folder, node.name, tensor.tensor_shape, tensor.dtype)


def _check_size(folder: Path, name: str, shape, dtype) -> None:
    import tensorflow as tf

    if any(d.size < 0 for d in shape.dim) or shape.unknown_rank:
        raise RequestError(f"{folder} declares {name} without a whole shape")
    try:
        width = tf.as_dtype(dtype).size or 1
    except TypeError:
        raise RequestError(f"{folder} declares {name} of a type that TensorFlow does not have") from None
    size = math.prod(d.size for d in shape.dim) * width
    if size > MOST_TENSOR:
        raise RequestError(f"{folder} declares {name} with {size:,} bytes, which is not loaded")


def _check_checkpoints(folder: Path, graph, functions: dict) -> None:
    """Nothing that is called by a signature, or while loading, may write or read checkpoints.

    What does is called by two nodes of the graph that the file names as its savers. TensorFlow runs neither of them
    while it loads graphs with objects; model servers run the one that restores, which therefore may not write.
    """
    touching = {n for n, f in functions.items() if any(node.op in _CHECKPOINTS for node in f.node_def)}
    for name in sorted(touching & _reachable(graph, functions)):
        raise RequestError(f"{folder} lets its function {name} reach files, so it is not loaded")
    saver, restorer = graph.saver_def.save_tensor_name.partition(":")[0], graph.saver_def.restore_op_name
    for node in graph.graph_def.node:
        called = touching & {node.op, *_called(node)}
        allowed = node.op in _CALLS and node.name in (saver, restorer)
        if node.name == restorer:
            allowed = allowed and not any(n.op in _WRITING for name in called for n in functions[name].node_def)
        if (node.op in _CHECKPOINTS or called) and not allowed:
            raise RequestError(f"{folder} lets {node.name} reach files, so it is not loaded")


def _reachable(graph, functions: dict) -> set[str]:
    """Functions that are called by name while loading or later, and those that may be put in the place of others."""
    objects = graph.object_graph_def
    reachable = set(objects.concrete_functions)
    for thing in objects.nodes:
        reachable |= {*thing.function.concrete_functions, thing.bare_concrete_function.concrete_function_name}
    for name, function in functions.items():
        if "api_implements" in function.attr:  # TensorFlow exchanges functions that are said to do the same
            reachable.add(name)
        for node in function.node_def:
            reachable |= {node.op, *_called(node)}
    return reachable


def _called(node) -> Iterator[str]:
    """Names of functions that a node calls."""
    for value in node.attr.values():
        if value.HasField("func"):
            yield value.func.name
        yield from (f.name for f in value.list.func)
