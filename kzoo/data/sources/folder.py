"""An image folder with one subfolder for each class."""

from pathlib import Path

from kzoo.data.images import Collection, Images, Reader, from_files
from kzoo.data.reading import Reading
from kzoo.errors import RequestError, nearest

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

    Classes are the subfolders' names in alphabetical order, of the training part; each needs an image there, and no
    other part may have a class of its own.
    """
    root = Path(path).expanduser()
    parts = {_PARTS[p.name.lower()]: p for p in sorted(root.iterdir()) if p.is_dir() and p.name.lower() in _PARTS}
    if "train" not in parts:
        parts = {"train": root}
    classes = _subfolders(parts["train"])
    if len(classes) < 2:
        raise RequestError(
            f"{parts['train']} needs a subfolder for each of at least two classes, and has {len(classes)}"
        )
    for folder in parts.values():
        unknown = sorted(set(_subfolders(folder)) - set(classes))
        if unknown:
            hint = nearest(unknown[0], classes)
            raise RequestError(f"{folder / unknown[0]} is a class that {parts['train']} does not have{hint}")
    reader = Reader(reading)
    found: dict[str, Images] = {}
    for name, folder in parts.items():
        found[name] = _part(folder, classes, reader, complete=name == "train")
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


def _subfolders(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")))


def _images(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES) if folder.is_dir() else []


def _part(folder: Path, classes: tuple[str, ...], reader: Reader, complete: bool) -> Images:
    """Images of one part; a complete one has some of each class."""
    paths, labels = [], []
    for label, name in enumerate(classes):
        own = _images(folder / name)
        if complete and not own:
            raise RequestError(f"{folder / name} is a class without images ({', '.join(sorted(SUFFIXES))})")
        paths += own
        labels += [label] * len(own)
    if not paths:
        raise RequestError(f"{folder} holds no images ({', '.join(sorted(SUFFIXES))}) under its class folders")
    return from_files(paths, labels, reader)
