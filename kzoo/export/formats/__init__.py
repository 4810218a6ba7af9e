"""The kinds of artefacts, by name: a module for each family of them."""

from kzoo.export.formats.base import NETWORK, Format, Subject
from kzoo.export.formats.keras_files import H5, Keras, KerasInt8, WeightsH5
from kzoo.export.formats.litert import LiteRT, LiteRTDynamic, LiteRTFloat16, LiteRTInt8
from kzoo.export.formats.onnx import Onnx, OnnxFloat16, OnnxInt8
from kzoo.export.formats.openvino import OpenVino
from kzoo.export.formats.saved_model import SavedModel

FORMATS: dict[str, Format] = {
    "h5": H5(),
    "keras": Keras(),
    "weights_h5": WeightsH5(),
    "saved_model": SavedModel(),
    "onnx": Onnx(),
    "litert": LiteRT(),
    "openvino": OpenVino(),
    "keras_int8": KerasInt8(),
    "onnx_int8": OnnxInt8(),
    "onnx_float16": OnnxFloat16(),
    "litert_dynamic": LiteRTDynamic(),
    "litert_int8": LiteRTInt8(),
    "litert_float16": LiteRTFloat16(),
}

__all__ = ["FORMATS", "NETWORK", "Format", "Subject"]
