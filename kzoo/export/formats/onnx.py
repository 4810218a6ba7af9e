"""ONNX, by tf2onnx, for ONNX Runtime.

A file of ONNX holds one graph: ``model.onnx`` is the network, and each further door is a file of its own beside it,
``model-<door>.onnx``, which takes its weights from ``model.onnx`` (see `kzoo.export.formats.onnx_weights`). Batch and
time stay open. What inference needs beside the graph is in the metadata, under ``model.json``.
"""

import contextlib
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from kzoo.errors import WorkError, first_line
from kzoo.export.formats import onnx_weights
from kzoo.export.formats.base import NETWORK, Format, Subject

# LayerNormalization as one operator came with 17; ONNX Runtime keeps old ones.
OPSET = 17


class Onnx(Format):
    """Float32 graphs."""

    artefact, runtime, doors = "model.onnx", "onnxruntime", "numeric"
    extra, packages = "onnx", ("onnx", "onnxruntime", "tf2onnx")
    backends: ClassVar = ("tensorflow",)

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Write the network, and of the other doors what can be converted."""
        places: onnx_weights.Places = {}
        onnx_weights.write(graph(subject, NETWORK), path, places)
        refused = {}
        for door in subject.numeric:
            beside = path.with_name(f"{path.stem}-{door}{path.suffix}")
            try:
                onnx_weights.write(graph(subject, door), beside, places)
            except Exception as error:  # of tf2onnx and of ONNX's checker, whatever they are
                refused[door] = f"ONNX cannot hold it: {first_line(error)}"
        return refused

    def owns(self, file: str) -> bool:
        """The network's file and those of its doors."""
        stem, suffix = self.artefact[: -len(".onnx")], ".onnx"
        return file == self.artefact or (file.startswith(f"{stem}-") and file.endswith(suffix) and "/" not in file)


class OnnxInt8(Format):
    """8-bit weights, activations quantised as they come (dynamic quantisation)."""

    artefact, runtime, precision = "model.int8.onnx", "onnxruntime", "int8"
    extra, packages, backends = "onnx", Onnx.packages, Onnx.backends

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Quantise the network."""
        from onnxruntime.quantization import QuantType, quantize_dynamic

        with hushed():
            # One scale for each output channel: weights of trained convolutions differ a hundredfold between channels.
            quantize_dynamic(source(subject), path, weight_type=QuantType.QInt8, per_channel=True)
        return {}


class OnnxFloat16(Format):
    """Weights and arithmetic in half precision, inputs and outputs in float32."""

    artefact, runtime, precision = "model.float16.onnx", "onnxruntime", "float16"
    extra, packages, backends = "onnx", Onnx.packages, Onnx.backends

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Convert the network."""
        import onnx
        from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        proto = onnx.load(source(subject))
        squares = [n.name for n in proto.graph.node if n.op_type == "Mul" and n.input[0] == n.input[1]]
        with hushed():
            proto = convert_float_to_float16(
                proto,
                keep_io_types=True,
                # A sum of squares, as norms are made of, soon exceeds half precision's 65,504.
                op_block_list=[*DEFAULT_OP_BLOCK_LIST, "ReduceSum", "Sqrt", "Reciprocal"],
                node_block_list=squares,
            )
            _join_float32(proto.graph)
            # The casts of the inputs were put at the end.
            OnnxModel(proto).topological_sort()
        onnx.checker.check_model(proto)
        write(proto, path)
        return {}


def _join_float32(graph) -> None:
    """Let float32 go from one node that keeps it straight to the next, and not through half precision between them."""
    from onnx import TensorProto

    casts = {n.output[0]: (n.input[0], n.attribute[0].i) for n in graph.node if n.op_type == "Cast"}
    straight = {}
    for name, (source, kind) in casts.items():
        if kind == TensorProto.FLOAT and casts.get(source, ("", 0))[1] == TensorProto.FLOAT16:
            # The input of a cast to half precision that a converter made is float32.
            straight[name] = casts[source][0]
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = straight.get(name, name)


def graph(subject: Subject, door: str):
    """A door's model, converted once for all formats that are made of it.

    Raises:
        WorkError: See `convert`.
    """
    key = f"onnx {door}"
    if key not in subject.shared:
        subject.shared[key] = convert(subject, door)
    return subject.shared[key]


def source(subject: Subject) -> Path:
    """The float32 network as a file to make another of."""
    path = subject.scratch / "network.onnx"
    if not path.exists():
        write(graph(subject, NETWORK), path)
    return path


def convert(subject: Subject, door: str):
    """A door as an ONNX model.

    Raises:
        WorkError: It has an operation that ONNX has not.
    """
    import onnx

    function = subject.function(door)
    with hushed() as complaints:
        proto = _converted(function)
    missing = sorted({c for line in complaints for c in _unsupported(line)})
    if missing:
        raise WorkError(f"ONNX has no operator for TensorFlow's {', '.join(missing)}")
    _name_axes(proto)
    proto.producer_name, proto.doc_string = "kzoo", f"{subject.card['model']}: {door}"
    onnx.helper.set_model_props(proto, {"model.json": json.dumps(subject.card), "door": door})
    onnx.checker.check_model(proto)
    return proto


def write(proto, path: Path) -> None:
    """Write a model as one file."""
    import onnx

    onnx.save_model(proto, str(path))


def _converted(function):
    from keras.src.export.tf2onnx_lib import patch_tf2onnx

    # tf2onnx 1.17 uses names that NumPy 2 no longer has; Keras repairs it for its own exporter.
    patch_tf2onnx()
    import tf2onnx

    def convert():
        proto, _ = tf2onnx.convert.from_function(
            function,
            input_signature=function.input_signature,
            opset=OPSET,
            custom_op_handlers={"Erfc": (_erfc, [])},
        )
        return proto

    try:
        with _without_copies():
            return convert()
    except Exception:
        # An optimisation failed, perhaps, which tf2onnx undoes where it has a copy.
        return convert()


@contextlib.contextmanager
def _without_copies() -> Iterator[None]:
    """Have tf2onnx copy the weights once, as it writes them: large networks take a third of the time.

    By itself it copies the whole graph before each optimisation, and every weight into the graph's protocol buffer
    after each, which nothing reads before the last.
    """
    import tf2onnx.graph

    graph, name = tf2onnx.graph.Graph, "TF2ONNX_CATCH_ERRORS"
    original, before = graph.update_proto, os.environ.get(name)

    def update_proto(self, *storage):
        # What writes a graph says where its large tensors go, if only that they stay in it.
        if storage:
            original(self, *storage)

    os.environ[name], graph.update_proto = "FALSE", update_proto
    try:
        yield
    finally:
        graph.update_proto = original
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _erfc(context, node, name, arguments):
    """TensorFlow's complementary error function, of the exact GELU, as 1 - erf."""
    import numpy as np
    import tf2onnx.tfonnx  # noqa: F401  (its handlers register themselves)

    node.type = "Erf"
    source = node.output[0]
    one = context.make_const(f"{node.name}_one", np.array(1, np.float32)).output[0]
    shape, dtype = context.get_shape(source), context.get_dtype(source)
    rest = context.make_node("Sub", [one, source], name=f"{node.name}_rest", shapes=[shape], dtypes=[dtype])
    context.replace_all_inputs(source, rest.output[0], ops=[n for n in context.get_nodes() if n is not rest])


def _name_axes(proto) -> None:
    """Call the first open axis of each input and output ``batch``; tf2onnx numbers them."""
    for value in (*proto.graph.input, *proto.graph.output):
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param:
                size.dim_param = "batch" if axis == 0 else f"{value.name}_{axis}"


def _unsupported(line: str) -> list[str]:
    """Operation's name in tf2onnx's complaint ``Tensorflow op [NAME: KIND] is not supported``."""
    if "is not supported" not in line or ": " not in line or "[" not in line:
        return []
    return [line.partition("[")[2].partition("]")[0].rpartition(": ")[2]]


@contextlib.contextmanager
def hushed() -> Iterator[list[str]]:
    """Keep off the terminal what the converters log, and collect their errors."""
    complaints: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: complaints.append(record.getMessage())
    root, loggers = logging.getLogger(), [logging.getLogger(n) for n in list(logging.root.manager.loggerDict)]
    loggers = [x for x in loggers if x.name.startswith("tf2onnx")] + [logging.getLogger("tf2onnx"), root]
    before = [(x, x.handlers[:], x.propagate) for x in loggers]
    for x in loggers:
        x.handlers[:], x.propagate = [handler], False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield complaints
    finally:
        for x, handlers, propagate in before:
            x.handlers[:], x.propagate = handlers, propagate
