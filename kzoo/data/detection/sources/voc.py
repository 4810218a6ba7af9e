"""A folder in the layout of Pascal VOC (Everingham et al. 2010)."""

from pathlib import Path
from xml.etree import ElementTree

from kzoo.data.detection.collection import ObjectReading, Problems, Raw
from kzoo.data.detection.sources import _folders
from kzoo.data.detection.truth import Truth, truth
from kzoo.errors import RequestError

_LARGEST = 1 << 24  # bytes of an annotation


def open_source(rest: str, reading: ObjectReading, problems: Problems) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """Open ``ROOT/JPEGImages`` with ``ROOT/Annotations/*.xml``; ``ROOT/ImageSets/Main/*.txt`` list the parts;
    without a list for training that is what no other names.

    VOC counts pixels from 1 and a box's last pixel is inside it; here boxes are edges, counted from 0.
    """
    root = _folders.root("voc", rest, reading)
    everything = sorted(p.stem for p in (root / "Annotations").glob("*.xml"))
    parts = _folders.split(_lists(root), reading, root / "ImageSets" / "Main", everything)
    return {part: _part(root, names[: reading.limit], reading, problems) for part, names in parts.items()}, ()


def check(rest: str, reading: ObjectReading) -> None:
    """Raise where the folder is not there or not of this layout."""
    root = _folders.root("voc", rest, reading)
    for folder in ("JPEGImages", "Annotations"):
        if not (root / folder).is_dir():
            raise RequestError(f"data.root {root} is not in Pascal VOC's layout: it has no folder {folder}")
    if reading.parts:
        _folders.chosen(_lists(root), reading, root / "ImageSets" / "Main")


def located(rest: str, reading: ObjectReading) -> dict:
    """The source with an absolute root."""
    return _folders.located("voc", rest, reading)


def parse(text: bytes) -> Truth:
    """The objects of an annotation.

    Raises:
        ValueError: It is no XML, or an object lacks its name or box.
    """
    # Entities could blow a small file up; annotations have none.
    if b"<!ENTITY" in text or len(text) > _LARGEST:
        raise ValueError("an annotation has no entities and is no larger than 16 MB")
    try:
        objects = ElementTree.fromstring(text).findall("object")
        names = [o.findtext("name", "").strip() for o in objects]
        edges = [[float(o.findtext(f"bndbox/{k}", "")) for k in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        flags = [[o.findtext(k, "0").strip() or "0" for k in ("difficult", "truncated", "occluded")] for o in objects]
    except (ElementTree.ParseError, LookupError) as error:  # the latter of an encoding that there is not
        raise ValueError(f"no XML: {error}") from None
    except ValueError:
        raise ValueError("a bndbox needs the numbers xmin, ymin, xmax and ymax") from None
    if not all(names):
        raise ValueError("an object has no name")
    return truth(
        [(x1 - 1, y1 - 1, x2, y2) if x2 > x1 and y2 > y1 else (x1, y1, x2, y2) for x1, y1, x2, y2 in edges],
        names,
        ignored=[difficult == "1" for difficult, _, _ in flags],
    )


def _lists(root: Path) -> dict[str, Path]:
    # Files such as aeroplane_train.txt list one class and are no parts.
    return {p.stem: p for p in sorted((root / "ImageSets" / "Main").glob("*.txt"))}


def _part(root: Path, names: list[str], reading: ObjectReading, problems: Problems) -> Raw:
    pictures, labels = root / "JPEGImages", root / "Annotations"
    return _folders.labelled(pictures, labels, ".xml", names, parse, reading.channels, problems)
