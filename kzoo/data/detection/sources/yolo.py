"""Pictures with text labels in the form of YOLO (Redmon's darknet, and ``data.yaml`` as Ultralytics writes it)."""

from pathlib import Path

import numpy as np
import yaml

from kzoo.data.detection.collection import ObjectReading, Problems, Raw, file_pictures
from kzoo.data.detection.sources import _folders
from kzoo.data.detection.truth import Truth, truth
from kzoo.errors import RequestError, first_line

# How far beyond the picture a share may lie: rounding, and boxes that were drawn over the edge.
_SLACK = 0.1


def open_source(rest: str, reading: ObjectReading, problems: Problems) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """Open ``ROOT/data.yaml`` with its parts, or ``ROOT/images/PART`` with ``ROOT/labels/PART`` and ``classes.txt``.

    The labels of ``.../images/x.jpg`` are in ``.../labels/x.txt``; without one, a picture has no objects.
    """
    root = _folders.root("yolo", rest, reading)
    known, classes = _layout(root)
    found = _folders.chosen(known, reading, root)
    return {part: _part(places, classes, reading, problems) for part, places in found.items()}, classes


def check(rest: str, reading: ObjectReading) -> None:
    """Raise where the folder is not there or not of this layout."""
    root = _folders.root("yolo", rest, reading)
    known, _ = _layout(root)
    if "train" not in _folders.chosen(known, reading, root):
        have = ", ".join(sorted(known)) or "none"
        raise RequestError(f"data.root {root} has no train part in YOLO's layout; its parts are {have}")


def located(rest: str, reading: ObjectReading) -> dict:
    """The source with an absolute root."""
    return _folders.located("yolo", rest, reading)


def parse(text: str, size: tuple[int, int], classes: tuple[str, ...]) -> Truth:
    """The objects of a label file: class, centre and size of each in shares of the picture, or class and an outline.

    Args:
        text: The file's content.
        size: Height and width of the picture.
        classes: Class names by number.

    Raises:
        ValueError: A line is not of this form, or its class has no name.
    """
    height, width = size
    boxes, names = [], []
    for number, line in enumerate(text.splitlines(), 1):
        fields = line.split()
        if not fields:
            continue
        if len(fields) != 5 and (len(fields) < 7 or len(fields) % 2 == 0):
            raise ValueError(f"line {number} has {len(fields)} fields, and a label has 5, or a class and an outline")
        try:
            label, values = int(float(fields[0])), np.array([float(v) for v in fields[1:]])
        except ValueError:
            raise ValueError(f"line {number} holds what is no number") from None
        if not 0 <= label < len(classes):
            raise ValueError(f"line {number} has the class {label}, and there are {len(classes)} names")
        if not (np.abs(values - 0.5) <= 0.5 + _SLACK).all():
            raise ValueError(f"line {number} has coordinates beyond 0 to 1, the shares of the picture")
        if len(values) == 4:
            low, high = values[:2] - values[2:] / 2, values[:2] + values[2:] / 2
        else:
            points = values.reshape(-1, 2)
            low, high = points.min(0), points.max(0)
        boxes.append(np.concatenate([low, high]) * [width, height, width, height])
        names.append(classes[label])
    return truth(boxes, names)


def _layout(root: Path) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    """Folders and lists of each part, and the class names."""
    described = next(
        (p for p in (root / "data.yaml", root / "data.yml", *sorted(root.glob("*.yaml"))) if p.is_file()), None
    )
    if described is not None:
        return _described(described)
    names = next((p for p in (root / "classes.txt", root / "labels" / "classes.txt") if p.is_file()), None)
    if names is None:
        raise RequestError(f"data.root {root} is not in YOLO's layout: it has neither data.yaml nor classes.txt")
    parts = {p.name: [p] for p in sorted((root / "images").glob("*")) if p.is_dir()}
    return parts or {"train": [root / "images"]}, tuple(_folders.lines(names))


def _described(path: Path) -> tuple[dict[str, list[Path]], tuple[str, ...]]:
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise RequestError(f"{path} cannot be read: {first_line(error)}") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list):
        raise RequestError(f"{path}: a YOLO data set has names, a list, or a mapping from 0, 1, ...")
    base = path.parent / str(content.get("path") or ".")
    base = base if base.is_dir() else path.parent
    parts = {}
    for part in ("train", "val", "test"):
        given = content.get(part)
        if given:
            parts[part] = [_place(base, str(g)) for g in (given if isinstance(given, list) else [given])]
    return parts, tuple(str(n) for n in names)


def _place(base: Path, given: str) -> Path:
    # Exporting tools write ../train/images, meant from a folder that is not there.
    for place in (base / given, base / given.removeprefix("../")):
        if place.exists():
            return place
    raise RequestError(f"there is no {base / given}, which the description of the YOLO data set names")


def _part(places: list[Path], classes: tuple[str, ...], reading: ObjectReading, problems: Problems) -> Raw:
    files = [file for place in places for file in _pictures(place, problems)][: reading.limit]
    pictures, kept = file_pictures(files, reading.channels, problems)
    good, truths = [], []
    for place, number in enumerate(kept):
        label = _label_of(files[number])
        try:
            text = label.read_text("utf-8") if label.is_file() else ""
            truths.append(parse(text, tuple(pictures.sizes[place]), classes))
            good.append(int(number))
        except (OSError, ValueError) as error:
            problems.add("label files that cannot be read", label, str(error))
    if len(good) < len(kept):
        pictures, _ = file_pictures([files[n] for n in good], reading.channels, problems)
    return Raw(pictures, truths)


def _pictures(place: Path, problems: Problems) -> list[Path]:
    """The pictures of a folder, or those that a list names."""
    if place.is_dir():
        return _folders.pictures_in(place)
    found = []
    for name in _folders.lines(place):
        path = place.parent / name
        if path.is_file():
            found.append(path)
        else:
            problems.add("pictures that a list names and that are not there", path)
    return found


def _label_of(picture: Path) -> Path:
    """The last folder called images becomes labels; else the label lies beside its picture."""
    parts = list(picture.with_suffix(".txt").parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == "images":
            parts[place] = "labels"
            break
    return Path(*parts)
