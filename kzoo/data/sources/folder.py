"""An image folder with one subfolder for each class."""

from pathlib import Path

from kzoo.data.images import Collection, Images, Reader, from_files
from kzoo.data.reading import Reading
from kzoo.errors import RequestError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif"}
_PARTS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
}


def open_source(path: str, reading: Reading) -> Collection:
    """Open ``folder:PATH``: ``PATH/<class>/*.jpg``, or ``PATH/{train,val,test}/<class>/*.jpg``.

    Classes are the subfolders' names in alphabetical order, of the training part.
    """
    root = Path(path).expanduser()
    parts = {_PARTS[p.name.lower()]: p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower() in _PARTS}
    if "train" not in parts:
        parts = {"train": root}
    classes = tuple(sorted(p.name for p in parts["train"].iterdir() if p.is_dir() and not p.name.startswith(".")))
    if len(classes) < 2:
        raise RequestError(
            f"{parts['train']} needs a subfolder for each of at least two classes, and has {len(classes)}"
        )
    reader = Reader(reading)
    found: dict[str, Images] = {}
    for name, folder in parts.items():
        found[name] = _part(folder, classes, reader)
    return Collection(found, classes, reader.unreadable)


def check(path: str, reading: Reading) -> None:
    """Raise where there is no such folder, or it cannot be cached as asked."""
    if not Path(path).expanduser().is_dir():
        raise RequestError(f"data.source folder:{path}: there is no such folder")
    if reading.cache == "disk":
        raise RequestError("data.cache disk is for tfds sources; a folder takes auto, memory or none")


def located(path: str, reading: Reading) -> dict:
    """The source with an absolute path."""
    return {"source": f"folder:{Path(path).expanduser().resolve()}"}


def _part(folder: Path, classes: tuple[str, ...], reader: Reader) -> Images:
    paths, labels = [], []
    for label, name in enumerate(classes):
        if not (folder / name).is_dir() and folder.name.lower() in _PARTS:
            continue
        own = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in SUFFIXES)
        paths += own
        labels += [label] * len(own)
    if not paths:
        raise RequestError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}) under its class folders")
    return from_files(paths, labels, reader)
