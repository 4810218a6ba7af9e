"""Pictures with annotations in the form of COCO (Lin et al. 2014, cocodataset.org/#format-data)."""

import json
import re
from collections import defaultdict
from pathlib import Path

from kzoo.data.detection.collection import ObjectReading, Problems, Raw, file_pictures
from kzoo.data.detection.sources import _folders
from kzoo.data.detection.truth import Truth, truth
from kzoo.errors import RequestError

# Annotation files that lie beside the pictures of their part, as exporting tools write them.
_BESIDE = "_annotations.coco.json"


def open_source(rest: str, reading: ObjectReading, problems: Problems) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """Open ``ROOT/annotations/instances_PART.json``, or ``ROOT/PART/_annotations.coco.json``.

    The pictures are looked for in ``ROOT/PART``, ``ROOT/images/PART``, ``ROOT/images``, ``ROOT`` and beside the
    annotations. A picture without annotations has no objects; crowds are ignored.
    """
    root = _folders.root("coco", rest, reading)
    found = _folders.chosen(_files(root), reading, root)
    raw, classes = {}, {}
    for part, path in found.items():
        raw[part], own = _part(root, path, reading, problems)
        classes |= dict.fromkeys(own)
    return raw, tuple(classes)


def check(rest: str, reading: ObjectReading) -> None:
    """Raise where the folder is not there or not of this layout."""
    root = _folders.root("coco", rest, reading)
    known = _files(root)
    if "train" not in _folders.chosen(known, reading, root):
        have = ", ".join(sorted(known)) or "none"
        raise RequestError(
            f"data.root {root} is not in COCO's layout: it has no annotations/instances_train*.json and no "
            f"train/{_BESIDE}; data.parts may name another of its annotations: {have}"
        )


def located(rest: str, reading: ObjectReading) -> dict:
    """The source with an absolute root."""
    return _folders.located("coco", rest, reading)


def parse(content: dict) -> tuple[list[tuple[str, Truth]], tuple[str, ...], list[str]]:
    """Pictures and objects of an annotation file.

    Returns:
        For each picture its file name and objects, the class names by rising number, and what is wrong with single
        annotations.

    Raises:
        ValueError: The content is not of this form.
    """
    try:
        names = {c["id"]: str(c["name"]) for c in sorted(content["categories"], key=lambda c: c["id"])}
        pictures = {p["id"]: str(p["file_name"]) for p in content["images"]}
        annotations = list(content["annotations"])
    except KeyError as error:
        raise ValueError(f"it lacks the key {error}") from None
    except TypeError:
        raise ValueError("it is not of COCO's form, with lists of images, annotations and categories") from None
    rows, wrong = defaultdict(list), []
    for number, annotation in enumerate(annotations):
        try:
            x, y, width, height = (float(v) for v in annotation["bbox"])
            name, crowd = names[annotation["category_id"]], bool(annotation.get("iscrowd", 0))
            rows[annotation["image_id"]].append(((x, y, x + width, y + height), name, crowd))
            if annotation["image_id"] not in pictures:
                raise ValueError("its image_id is that of no image")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            reason = f"lacks or does not know {error}" if isinstance(error, KeyError) else str(error)
            wrong.append(f"annotation {number}: {reason}")
    truths = []
    for key, file in pictures.items():
        boxes, called, crowds = zip(*rows[key], strict=True) if rows[key] else ((), (), ())
        truths.append((file, truth(boxes, called, ignored=crowds, regions=crowds)))
    return truths, tuple(dict.fromkeys(names.values())), wrong


def _files(root: Path) -> dict[str, Path]:
    """Annotation files by the names of their parts, those of the usual years also without their year."""
    found = {p.parent.name: p for p in sorted(root.glob(f"*/{_BESIDE}"))}
    for path in sorted((root / "annotations").glob("*.json")):
        name = path.stem.removeprefix("instances_")
        found[name] = path
        plain = re.fullmatch(r"(train|val|test)\d{4}", name)
        if plain and path.stem.startswith("instances_"):
            found.setdefault(plain[1], path)
    return found


def _part(root: Path, path: Path, reading: ObjectReading, problems: Problems) -> tuple[Raw, tuple[str, ...]]:
    try:
        pairs, classes, wrong = parse(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is no annotation file of COCO: {error}") from None
    for reason in wrong:
        problems.add("annotations that cannot be read", path, reason)
    part = path.stem.removeprefix("instances_")
    places = [root / part, root / "images" / part, root / "images", root, path.parent]
    paths, truths = [], []
    for name, objects in pairs[: reading.limit]:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            problems.add("pictures outside the folder", name)
            continue
        file = next((p / name for p in places if (p / name).is_file()), None)
        if file is None:
            problems.add("pictures that annotations name and that are not there", name)
            continue
        paths.append(file)
        truths.append(objects)
    pictures, kept = file_pictures(paths, reading.channels, problems)
    return Raw(pictures, [truths[i] for i in kept]), classes
