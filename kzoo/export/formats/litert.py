"""LiteRT (TensorFlow Lite), by TensorFlow's converter.

All doors are signatures of one flatbuffer, which share the weights. Batch and time stay open. What inference needs
beside the graph is in the metadata buffer ``model.json``.

LiteRT has no arrays of tensors whose element shape is open, so that it holds no loop over an open number of tokens of
an open number of texts, as Keras's recurrent layers make. Of such a network it holds ``step``, one token.
"""

import json
from pathlib import Path
from typing import ClassVar

from kzoo.errors import WorkError
from kzoo.export.formats.base import NETWORK, Format, Subject
from kzoo.export.formats.saved_model import write_functions
from kzoo.quiet import stderr_aside

METADATA = "model.json"
STEP = "step"


class LiteRT(Format):
    """Float32 graphs."""

    artefact, runtime, doors = "model.tflite", "litert", "numeric"
    extra = "litert"
    packages: ClassVar = ("ai_edge_litert",)
    backends: ClassVar = ("tensorflow",)

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Write the network and the other doors, as far as they can be converted."""
        wanted = [NETWORK, *subject.numeric]
        refused = subject.shared.get("litert_refused")
        if refused is None:
            refused = self._refused(subject, wanted)
            subject.shared["litert_refused"] = refused
        doors = [d for d in wanted if d not in refused]
        if not doors:
            raise WorkError(next(iter(refused.values())))
        content = subject.shared.pop("litert_float32", None) if self.precision == "float32" else None
        path.write_bytes(_with_metadata(content or convert(subject, doors, self._prepare), subject.card))
        return refused

    def _refused(self, subject: Subject, wanted: list[str]) -> dict[str, str]:
        """Doors that cannot be converted, each with its reason: all are tried at once, and where that fails singly."""
        try:
            subject.shared["litert_float32"] = convert(subject, wanted)
            return {}
        except WorkError:
            pass
        refused = {}
        for door in wanted:
            try:
                convert(subject, [door])
            except WorkError as error:
                refused[door] = str(error)
        return refused

    def _prepare(self, converter, subject: Subject) -> None:
        """Set what else the converter is to do."""


class LiteRTDynamic(LiteRT):
    """8-bit weights of large tensors, activations quantised as they come (dynamic-range quantisation)."""

    artefact, precision = "model.dynamic.tflite", "int8"

    def _prepare(self, converter, subject: Subject) -> None:
        import tensorflow as tf

        converter.optimizations = [tf.lite.Optimize.DEFAULT]


class LiteRTFloat16(LiteRT):
    """Weights in half precision, arithmetic as the processor likes."""

    artefact, precision = "model.float16.tflite", "float16"

    def _prepare(self, converter, subject: Subject) -> None:
        import tensorflow as tf

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.target_spec.supported_types = [tf.float16]


class LiteRTInt8(LiteRT):
    """Weights and activations in 8 bits, whose ranges come from examples of the recipe's data; float32 in and out.

    It holds one door: the network, or where LiteRT cannot hold that, a language model's ``step``.
    """

    artefact, precision = "model.int8.tflite", "int8"

    def wanted(self, subject: Subject) -> list[str]:
        """The network, and the step if that is what it became."""
        return [NETWORK, *([STEP] if NETWORK in subject.shared.get("litert_int8_refused", ()) else [])]

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Quantise the door with its examples."""
        refused = {}
        try:
            content = convert(subject, [NETWORK], _calibrated_by(NETWORK))
        except WorkError as error:
            if STEP not in subject.numeric:
                raise
            refused = {NETWORK: str(error)}
            content = convert(subject, [STEP], _calibrated_by(STEP))
        subject.shared["litert_int8_refused"] = refused
        path.write_bytes(_with_metadata(content, subject.card))
        return refused


def _calibrated_by(door: str):
    def prepare(converter, subject):
        import tensorflow as tf

        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: subject.calibration(door)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]

    return prepare


def convert(subject: Subject, doors: list[str], prepare=None) -> bytes:
    """Doors as one flatbuffer.

    Raises:
        WorkError: LiteRT cannot hold one of them.
    """
    import tensorflow as tf

    folder = subject.scratch / ("litert-" + "-".join(doors))
    if not folder.exists():
        write_functions({door: subject.function(door) for door in doors}, folder)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(folder), signature_keys=doors)
    if prepare is not None:
        prepare(converter, subject)
    with stderr_aside():
        try:
            return converter.convert()
        except Exception as error:  # of several kinds, with pages of MLIR that were written too
            reason = _reason(error)
    raise WorkError(reason)


def _reason(error: Exception) -> str:
    """One sentence of the converter's pages."""
    text = str(error)
    if "TensorList" in text:
        return "LiteRT has no arrays of tensors of an open shape, which a loop over an open number of tokens needs"
    for mark in ("error: ", "error:"):
        for line in text.splitlines():
            if mark in line and "note:" not in line:
                return f"LiteRT cannot hold it: {line.rpartition(mark)[2].strip()}"
    return f"LiteRT cannot hold it: {text.strip().partition(chr(10))[0][:300]}"


def _with_metadata(content: bytes, card: dict) -> bytes:
    """The flatbuffer with what inference needs beside it."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = json.dumps(card).encode()
    entry.name, entry.buffer = METADATA, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
