"""OpenVINO's folders."""

import math
from pathlib import Path

from kzoo.errors import RequestError
from kzoo.vetting.limits import MOST_GRAPH, MOST_TENSOR


def check_openvino(folder: Path) -> None:
    """Refuse a folder of OpenVINO's that has operations of others' making or declares tensors beyond measure.

    Raises:
        RequestError: It does, or is damaged, or comes with files that belong to none of the zoo's.
    """
    from xml.etree import ElementTree

    for path in folder.iterdir():
        if path.is_symlink() or not path.is_file() or path.suffix not in (".xml", ".bin", ".json"):
            raise RequestError(f"{path} belongs to no folder of OpenVINO's of the zoo")
    for path in sorted(folder.glob("*.xml")):
        if path.stat().st_size > MOST_GRAPH:
            raise RequestError(f"{path} has {path.stat().st_size:,} bytes, and a graph has at most {MOST_GRAPH:,}")
        try:
            root = ElementTree.parse(path).getroot()
            foreign = [x.get("type") for x in root.iter("layer") if not x.get("version", "").startswith("opset")]
            sizes = (math.prod(max(1, int(d.text)) for d in port.iter("dim")) for port in root.iter("port"))
            largest = max(sizes, default=0)
        except (ElementTree.ParseError, ValueError, TypeError) as error:
            raise RequestError(f"{path} cannot be opened: it is damaged ({type(error).__name__})") from None
        if foreign:
            raise RequestError(f"{path} has the operation {foreign[0]}, which is not loaded")
        if largest > MOST_TENSOR:
            raise RequestError(f"{path} declares a tensor of {largest:,} values")
