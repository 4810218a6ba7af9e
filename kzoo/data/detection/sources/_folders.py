"""What the sources that are folders share."""

from collections.abc import Callable, Iterable
from pathlib import Path

from kzoo.data.detection.collection import ObjectReading, Problems, Raw, file_pictures
from kzoo.data.detection.truth import Truth
from kzoo.errors import RequestError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp")
# What the parts are called in files and folders.
USUAL = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def root(kind: str, rest: str, reading: ObjectReading) -> Path:
    """The data set's folder.

    Raises:
        RequestError: None is named, or it is not there.
    """
    named = rest or reading.root
    if not named:
        raise RequestError(f"data.source {kind} needs its folder: --set data.root=FOLDER")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise RequestError(f"data.root {named}: there is no such folder")
    return folder


def located(kind: str, rest: str, reading: ObjectReading) -> dict:
    """The source with an absolute root."""
    return {"source": kind, "root": str(root(kind, rest, reading).resolve())}


def chosen(known: dict[str, Path], reading: ObjectReading, place: Path) -> dict[str, Path]:
    """What the source has by its own names, by the names of the parts.

    Args:
        known: The source's files or folders by their own names.
        reading: ``parts`` says what to take; empty for the usual names.
        place: Where they were found, for messages.

    Raises:
        RequestError: A part is asked for that is not there.
    """
    for part, name in reading.parts.items():
        if name not in known:
            have = ", ".join(sorted(known)) or "none"
            raise RequestError(f"data.parts: {place} has no {name!r} for {part}; it has {have}")
    if reading.parts:
        return {part: known[name] for part, name in reading.parts.items()}
    found = {part: next((known[n] for n in names if n in known), None) for part, names in USUAL.items()}
    return {part: path for part, path in found.items() if path is not None}


def split(lists: dict[str, Path], reading: ObjectReading, place: Path, everything: list[str]) -> dict[str, list[str]]:
    """The identifiers of each part.

    Args:
        lists: Split files by their own names.
        reading: See `chosen`.
        place: See `chosen`.
        everything: All identifiers; without a list for training it takes those that are in no other.
    """
    parts = {part: [line.split()[0] for line in lines(path)] for part, path in chosen(lists, reading, place).items()}
    if "train" not in parts:
        others = {name for names in parts.values() for name in names}
        parts["train"] = [name for name in everything if name not in others]
    return parts


def lines(path: Path) -> list[str]:
    """The lines of a text that hold something.

    Raises:
        RequestError: It is no UTF-8, or cannot be read.
    """
    try:
        return [line.strip() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise RequestError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def picture_of(folder: Path, name: str) -> Path | None:
    """The picture of that name, whatever its suffix; None where there is none."""
    return next(
        (p for s in SUFFIXES for p in (folder / f"{name}{s}", folder / f"{name}{s.upper()}") if p.is_file()), None
    )


def labelled(
    pictures: Path,
    labels: Path,
    suffix: str,
    names: Iterable[str],
    parse: Callable[[bytes], Truth],
    channels: int,
    problems: Problems,
) -> Raw:
    """Pictures of a list with a label file each; what is not there or cannot be read is left out and noted.

    Args:
        pictures: Their folder.
        labels: Folder of the label files.
        suffix: Of a label file, such as ``.txt``.
        names: Names without suffix.
        parse: From a label file's content to objects; raises ValueError where it is wrong.
        channels: 1 or 3.
        problems: Where they are noted.
    """
    paths, truths = [], []
    for name in names:
        path, label = picture_of(pictures, name), labels / f"{name}{suffix}"
        if path is None:
            problems.add("pictures that a list names and that are not there", pictures / name)
            continue
        if not label.is_file():
            problems.add("pictures without a label file", path)
            continue
        try:
            truths.append(parse(label.read_bytes()))
        except (OSError, ValueError) as error:
            problems.add("label files that cannot be read", label, str(error))
            continue
        paths.append(path)
    found, kept = file_pictures(paths, channels, problems)
    return Raw(found, [truths[i] for i in kept])


def pictures_in(folder: Path) -> list[Path]:
    """All pictures of a folder, sorted."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
