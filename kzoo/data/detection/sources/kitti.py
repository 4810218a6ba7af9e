"""A folder in KITTI's object layout (Geiger et al. 2012, cvlibs.net/datasets/kitti)."""

from pathlib import Path

from kzoo.data.detection.collection import ObjectReading, Problems, Raw
from kzoo.data.detection.sources import _folders
from kzoo.data.detection.truth import Truth, truth
from kzoo.errors import RequestError

DONT_CARE = "DontCare"


def open_source(rest: str, reading: ObjectReading, problems: Problems) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """Open ``ROOT/training/image_2/*.png`` with ``ROOT/training/label_2/*.txt``.

    Lists of numbers in ``ROOT/split``, ``ROOT/ImageSets`` or ``ROOT/ImageSets/Main`` make the parts; without one for
    training that is what no other lists. A picture without a label file is left out and named; an empty label file
    means no objects.
    """
    root = _folders.root("kitti", rest, reading)
    everything = [p.stem for p in _folders.pictures_in(root / "training" / "image_2")]
    parts = _folders.split(_lists(root), reading, root, everything)
    return {part: _part(root, names[: reading.limit], reading, problems) for part, names in parts.items()}, ()


def check(rest: str, reading: ObjectReading) -> None:
    """Raise where the folder is not there or not of this layout."""
    root = _folders.root("kitti", rest, reading)
    for folder in ("image_2", "label_2"):
        if not (root / "training" / folder).is_dir():
            raise RequestError(f"data.root {root} is not in KITTI's layout: it has no folder training/{folder}")
    if reading.parts:
        _folders.chosen(_lists(root), reading, root)


def located(rest: str, reading: ObjectReading) -> dict:
    """The source with an absolute root."""
    return _folders.located("kitti", rest, reading)


def parse(text: str) -> Truth:
    """The objects of a label file: type, truncation, occlusion, alpha, left, top, right, bottom, and 3D fields.

    Raises:
        ValueError: A line has fewer than eight fields, or others than numbers.
    """
    rows = [line.split() for line in text.splitlines() if line.strip()]
    for number, row in enumerate(rows, 1):
        if len(row) < 8:
            raise ValueError(f"line {number} has {len(row)} fields, and a label has 15")
    dont_care = [row[0] == DONT_CARE for row in rows]
    return truth(
        [[float(v) for v in row[4:8]] for row in rows],
        [row[0] for row in rows],
        ignored=dont_care,
        regions=dont_care,
        truncation=[float(row[1]) for row in rows],
        occlusion=[int(float(row[2])) for row in rows],
    )


def _lists(root: Path) -> dict[str, Path]:
    for folder in ("split", "ImageSets/Main", "ImageSets"):
        lists = {p.stem: p for p in sorted((root / folder).glob("*.txt"))}
        if lists:
            return lists
    return {}


def _part(root: Path, names: list[str], reading: ObjectReading, problems: Problems) -> Raw:
    pictures, labels = root / "training" / "image_2", root / "training" / "label_2"
    return _folders.labelled(
        pictures, labels, ".txt", names, lambda content: parse(content.decode("utf-8")), reading.channels, problems
    )
