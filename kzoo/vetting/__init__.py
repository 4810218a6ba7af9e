"""What is looked at before a runtime opens a file that may come from anyone: a module for each kind of artefact.

TensorFlow and Keras run what their files bring, so these are compared with what networks are made of. ONNX Runtime,
LiteRT and OpenVINO run no code that a file brings, but ONNX may name other files as its weights, and all formats may
declare tensors of any size.
"""

from pathlib import Path

from kzoo import runtimes
from kzoo.errors import RequestError
from kzoo.vetting.arrays import check_arrays
from kzoo.vetting.keras_files import check_keras
from kzoo.vetting.limits import MOST_CALLS
from kzoo.vetting.litert import check_litert
from kzoo.vetting.onnx import check_onnx
from kzoo.vetting.openvino import check_openvino
from kzoo.vetting.saved_model import check_saved_model
from kzoo.vetting.unchanged import check_unchanged

__all__ = [
    "MOST_CALLS",
    "check",
    "check_arrays",
    "check_keras",
    "check_litert",
    "check_onnx",
    "check_openvino",
    "check_saved_model",
    "check_unchanged",
]


def check(artefact: Path) -> None:
    """Refuse an artefact that could do more than compute, whatever its kind.

    Args:
        artefact: A file, or the folder of a SavedModel or of OpenVINO's. With a file of ONNX those of its doors beside
            it are looked at too, which are opened with it.

    Raises:
        RequestError: It could, is damaged, was changed since it was verified, or is no artefact of a kind that the zoo
            opens.
    """
    if artefact.suffix == ".onnx":
        files = [Path(file) for file in runtimes.onnx_files(artefact).values()]
        for file in files:
            # The network's file, the first, holds all that it needs.
            check_onnx(file, () if file == files[0] else tuple(f.name for f in files))
    elif artefact.suffix == ".tflite":
        check_litert(artefact)
    elif artefact.suffix in (".keras", ".h5"):
        check_keras(artefact)
    elif (artefact / f"{runtimes.NETWORK}.xml").is_file():
        check_openvino(artefact)
    elif artefact.is_dir():
        check_saved_model(artefact)
    else:
        raise RequestError(f"{artefact} is no artefact of a kind that the zoo opens")
    check_unchanged(artefact)
