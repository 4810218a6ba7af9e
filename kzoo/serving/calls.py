"""Calls TensorFlow's functions with arrays, and tells whose fault it is where one fails."""

import itertools
import re
from collections.abc import Callable

import numpy as np

from kzoo.serving.refused import Refused

Arrays = dict[str, np.ndarray]

# Operations that read what a client's string holds. What one of them refuses is the client's fault; no other error is,
# of an input that fits its door. There are more of them, but none in `kzoo.vetting.operations.OPERATIONS`.
_READERS = frozenset(
    """
    DecodeAndCropJpeg DecodeBase64 DecodeBmp DecodeGif DecodeImage DecodeJpeg DecodePng DecodeRaw ExtractJpegShape
    StringToNumber UnicodeDecode UnicodeDecodeWithOffsets UnicodeTranscode
    """.split()  # noqa: SIM905
)


def caller(function, specs: tuple, keep=None) -> Callable[[Arrays], Arrays]:
    """A function of TensorFlow's from arrays to arrays.

    Args:
        function: A concrete function that gives tensors by name.
        specs: ``tf.TensorSpec`` of each input, named.
        keep: What lives as long as the result, as a loaded signature demands.

    Returns:
        What takes and gives arrays by name. It raises `Refused` for a string that cannot be read as what it should
        hold.
    """
    import tensorflow as tf

    readers = _readers(function)
    strings = ", ".join(repr(spec.name) for spec in specs if spec.dtype == tf.string)

    def call(inputs: Arrays, _keep=keep) -> Arrays:
        try:
            found = function(**{spec.name: tf.constant(inputs[spec.name], spec.dtype) for spec in specs})
        except tf.errors.InvalidArgumentError as error:
            if _failed(error.message) not in readers:
                raise
            raise Refused(400, f"the input {strings} cannot be read: {reason(error)}") from None
        return {name: np.asarray(value) for name, value in found.items()}

    return call


def _readers(function) -> set[str]:
    """Names, without those of their scopes, of a function's operations that read strings."""
    graph = function.graph.as_graph_def()
    nodes = itertools.chain(graph.node, *(f.node_def for f in graph.library.function))
    return {node.name.rpartition("/")[2] for node in nodes if node.op in _READERS}


def _failed(message: str) -> str | None:
    """The name, without those of its scopes, of the operation that an error of TensorFlow's names first."""
    found = re.search(r"\{\{node ([^}]+)\}\}", message)
    return found and found[1].rpartition("/")[2]


def reason(error: Exception) -> str:
    """What an error says; in those of TensorFlow's graphs, where it was stands before that, and its name behind."""
    told = str(error).partition("\n\t [[")[0].strip().rpartition("\n")[2]
    return told.rpartition("}} ")[2] or type(error).__name__
