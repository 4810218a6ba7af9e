"""OpenVINO's intermediate representation, read from ONNX graphs, for OpenVINO on Intel's processors.

A folder holds each door as a pair of ``<door>.xml`` and ``<door>.bin``, and ``model.json``. Batch and time stay open.
"""

import re
from pathlib import Path
from typing import ClassVar

from kzoo.errors import WorkError, first_line
from kzoo.export.formats.base import NETWORK, Format, Subject
from kzoo.export.formats.onnx import Onnx, graph, hushed
from kzoo.files import write_json


class OpenVino(Format):
    """Float32 graphs."""

    artefact, runtime, doors = "openvino", "openvino", "numeric"
    extra, packages = "openvino", ("openvino", "onnx", "tf2onnx")
    backends: ClassVar = Onnx.backends

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Write the network, and of the other doors what OpenVINO can hold."""
        path.mkdir()
        write_json(path / "model.json", subject.card)
        convert(subject, NETWORK, path)
        refused = {}
        for door in subject.numeric:
            try:
                convert(subject, door, path)
            except WorkError as error:
                refused[door] = str(error)
        return refused


def convert(subject: Subject, door: str, folder: Path) -> None:
    """Write a door.

    Raises:
        WorkError: ONNX cannot hold it, or OpenVINO cannot read it from there.
    """
    import onnx
    import openvino

    source = subject.scratch / f"openvino-{door}.onnx"
    try:
        proto = graph(subject, door)
        onnx.save_model(proto, str(source))
    except Exception as error:  # of tf2onnx and of ONNX's checker, whatever they are
        raise WorkError(f"ONNX, from which OpenVINO reads, cannot hold it: {first_line(error)}") from None
    try:
        with hushed():
            model = openvino.Core().read_model(str(source))
            for ports, values in ((model.inputs, proto.graph.input), (model.outputs, proto.graph.output)):
                for port, value in zip(ports, values, strict=True):
                    # What operations of no effect would have added, and runtimes might show.
                    port.set_names({value.name})
            openvino.save_model(model, str(folder / f"{door}.xml"), compress_to_fp16=False)
    except RuntimeError as error:
        raise WorkError(f"OpenVINO cannot hold it: {_reason(str(error))}") from None


def _reason(said: str) -> str:
    """One sentence of OpenVINO's pages."""
    failed = re.findall(r"Conversion is failed for: (.+)", said)
    if failed:
        return f"its reader of ONNX does not take this {', '.join(o.partition('-')[0] for o in failed)}"
    return next((line for line in reversed(said.splitlines()) if line.strip()), "no reason given").strip()
