"""Pictures with their objects, by part; classes assigned, what is damaged named and counted."""

import concurrent.futures
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kzoo import boxes
from kzoo.data.detection.truth import ANY, Truth
from kzoo.errors import RequestError, first_line, nearest

# Decoded pictures are kept in memory by themselves up to this share of what is free.
MEMORY_SHARE = 0.4
# Draws a picture, uint8 (height, width, channels), with its objects, from its place and the number of the pass.
Drawn = Callable[[int, int], tuple[np.ndarray, Truth]]
# What a class map may say instead of a class.
IGNORE, BACKGROUND = "ignore", "background"
_SHOWN = 5  # files named for each kind of problem


@dataclass(frozen=True)
class ObjectReading:
    """How a source of pictures with their objects is read; see the recipe's ``data`` section.

    Attributes:
        root: The data set's folder.
        parts: From ``train``, ``validation`` and ``test`` to what the source calls them; empty for the usual names.
        classes: Class names in the order of the labels; empty for those that are found.
        class_map: From a source's names to classes, ``ignore`` or ``background``.
        unlisted: ``ignore`` or ``background``: what objects are that no class is given for.
        channels: 1 or 3.
        limit: At most so many pictures of each part.
        on_corrupt: ``skip`` or ``stop``.
        data_dir: Folder of prepared TFDS data.
        download: Whether TFDS may fetch.
        anew: Whether a source that draws its pictures draws others for each pass over the training part.
    """

    root: str | None = None
    parts: dict[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    class_map: dict[str, str] = field(default_factory=dict)
    unlisted: str = IGNORE
    channels: int = 3
    limit: int | None = None
    on_corrupt: str = "skip"
    data_dir: str | None = None
    download: bool = False
    anew: bool = False


class Problems:
    """What is wrong with the data, by kind; fatal at once where the recipe says so."""

    def __init__(self, on_corrupt: str):
        self.stop, self.found, self._lock = on_corrupt == "stop", {}, threading.Lock()

    def add(self, kind: str, place: str | Path, reason: str = "") -> None:
        """Note a problem.

        Args:
            kind: What there are several of, such as "degenerate boxes".
            place: The file.
            reason: More of it.

        Raises:
            RequestError: ``data.on_corrupt`` is "stop".
        """
        said = f"{place} ({reason})" if reason else str(place)
        if self.stop:
            raise RequestError(f"{kind}: {said}; data.on_corrupt=skip would go on without")
        with self._lock:
            self.found.setdefault(kind, {})[said] = None

    def notes(self) -> list[str]:
        """One line for each kind: how many, and the first few by name."""
        lines = []
        for kind, places in sorted(self.found.items()):
            names = sorted(places)
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            lines.append(f"{len(names)} {kind} left out: {', '.join(names[:_SHOWN])}{more}")
        return lines


class Pictures:
    """Pictures by number, decoded when asked for, and kept where all of them fit in memory."""

    def __init__(self, names: Sequence[str], sizes: np.ndarray, read: Callable[[int], np.ndarray]):
        """Describe pictures; nothing is read yet.

        Args:
            names: What to call each: a path, or an identifier.
            sizes: int (pictures, 2), height and width.
            read: Gives a picture, uint8 (height, width, channels); raises ValueError or OSError for a damaged one.
        """
        self.names, self.sizes, self._read = list(names), np.asarray(sizes, np.int64).reshape(-1, 2), read
        self._kept: dict[int, np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def keep(self, wanted: str, channels: int) -> None:
        """Keep decoded pictures in memory: ``memory`` always, ``auto`` where they fit, ``none`` never."""
        import psutil

        size = int(self.sizes.prod(1).sum()) * channels
        if wanted == "memory" or (wanted == "auto" and size < MEMORY_SHARE * psutil.virtual_memory().available):
            self._kept = {}

    def __getitem__(self, place: int) -> np.ndarray:
        if self._kept is None:
            return self._read(place)
        if place not in self._kept:
            self._kept[place] = self._read(place)
        return self._kept[place]


@dataclass(frozen=True)
class Part:
    """Some pictures and their objects.

    Attributes:
        pictures: All pictures of the source's part.
        places: Which of them belong to this part.
        truths: The objects of each, as many as `places`.
        problems: Where an unreadable picture is noted.
        drawn: From a place in `pictures` and the number of a pass over them, from 1, to the picture that is drawn in
            its stead; None where each pass shows the same.
    """

    pictures: Pictures
    places: np.ndarray
    truths: list[Truth]
    problems: Problems
    drawn: Drawn | None = None

    def __len__(self) -> int:
        return len(self.places)

    def name(self, number: int) -> str:
        """What a picture is called."""
        return self.pictures.names[self.places[number]]

    @property
    def sizes(self) -> np.ndarray:
        """int (pictures, 2), height and width."""
        return self.pictures.sizes[self.places]

    def picture(self, number: int) -> np.ndarray | None:
        """One picture, uint8 (height, width, channels); None for one that cannot be read."""
        try:
            return self.pictures[self.places[number]]
        except (ValueError, OSError) as error:
            self.problems.add("unreadable pictures", self.name(number), first_line(error))
            return None

    def shown(self, number: int, turn: int) -> tuple[np.ndarray | None, Truth]:
        """A picture, see `picture`, and its objects, as a pass over the part shows them.

        Args:
            number: Which.
            turn: The number of the pass, from 0.
        """
        if turn and self.drawn is not None:
            return self.drawn(int(self.places[number]), turn)
        return self.picture(number), self.truths[number]

    def take(self, numbers: np.ndarray) -> "Part":
        """The pictures at these places."""
        truths = [self.truths[i] for i in numbers]
        return Part(self.pictures, self.places[numbers], truths, self.problems, self.drawn)


@dataclass
class Collection:
    """A data set: its parts, its classes, and what is wrong with it.

    Attributes:
        parts: ``train`` always, ``validation`` and ``test`` where the source has them.
        classes: Class names; a label is an index into them.
        problems: See `Problems`.
    """

    parts: dict[str, Part]
    classes: tuple[str, ...]
    problems: Problems


@dataclass(frozen=True)
class Raw:
    """A part as its source gives it.

    Attributes:
        pictures: The pictures.
        truths: The objects of each, without labels.
        drawn: See `Part`; the objects without labels.
    """

    pictures: Pictures
    truths: list[Truth]
    drawn: Drawn | None = None


def collect(raw: dict[str, Raw], classes: Sequence[str], reading: ObjectReading, problems: Problems) -> Collection:
    """Assign classes, clip boxes to their pictures, and leave out those that are none.

    Args:
        raw: Parts; ``train`` must be there.
        classes: The source's own classes, in its order; empty for a source that has only names.
        reading: Classes and class map.
        problems: Where degenerate boxes are noted.

    Raises:
        RequestError: The recipe names a class that the training part lacks, or a part is empty.
    """
    for name, part in raw.items():
        if not len(part.pictures):
            why = "; ".join(problems.notes())
            raise RequestError(f"the {name} part of the data has no pictures with labels{why and ': '}{why}")
    chosen = _choose_classes(raw["train"], classes, reading)
    parts = {}
    for name, part in raw.items():
        truths = [
            _labelled(_clean(truth, size, called, problems), chosen, reading)
            for truth, size, called in zip(part.truths, part.pictures.sizes, part.pictures.names, strict=True)
        ]
        drawn = part.drawn and _labelling(part.drawn, chosen, reading)
        parts[name] = Part(part.pictures, np.arange(len(truths)), truths, problems, drawn)
    return Collection(parts, chosen, problems)


def hold_out(part: Part, share: float, seed: int) -> tuple[Part, Part]:
    """Split a part in two at random, the same way for the same seed; at least one picture is held out and one stays."""
    count = min(max(1, round(share * len(part))), len(part) - 1)
    order = np.random.default_rng(seed).permutation(len(part))
    return part.take(np.sort(order[count:])), part.take(np.sort(order[:count]))


def file_pictures(paths: Sequence[Path], channels: int, problems: Problems) -> tuple[Pictures, np.ndarray]:
    """Pictures of files whose headers can be read.

    Returns:
        The pictures, and the places in `paths` that they have.
    """
    with concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        found = list(pool.map(_header, paths))
    kept = [i for i, size in enumerate(found) if not isinstance(size, str)]
    for path, size in zip(paths, found, strict=True):
        if isinstance(size, str):
            problems.add("unreadable pictures", path, size)
    chosen = [paths[i] for i in kept]

    def read(place: int) -> np.ndarray:
        from kzoo.data import decode

        return decode.image(chosen[place].read_bytes(), None, channels, "stretch")

    return Pictures([str(p) for p in chosen], np.array([found[i] for i in kept]), read), np.array(kept, np.int64)


def _header(path: Path) -> tuple[int, int] | str:
    """Height and width from a picture's header; the reason where there is none."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.height, picture.width
    except UnidentifiedImageError:
        return "no picture"
    # Pillow refuses headers that would fill the memory by an error of its own kind, and long texts by ValueError.
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        return getattr(error, "strerror", None) or str(error)


def _choose_classes(train: Raw, own: Sequence[str], reading: ObjectReading) -> tuple[str, ...]:
    counted = (n for t in train.truths for n, region in zip(t.names, t.regions, strict=True) if not region)
    present = {reading.class_map.get(n, n) for n in counted} - {IGNORE, BACKGROUND}
    known = list(dict.fromkeys([*(reading.class_map.get(c, c) for c in own), *sorted(present)]))
    known = [c for c in known if c not in (IGNORE, BACKGROUND)]
    for name in reading.classes:
        if name not in known:
            raise RequestError(f"data.classes: the data have no class {name!r}{nearest(name, known)}")
        if reading.classes.count(name) > 1:
            raise RequestError(f"data.classes names {name} twice")
    chosen = reading.classes or tuple(known)
    for name, target in reading.class_map.items():
        if target not in (*chosen, IGNORE, BACKGROUND):
            hint = nearest(target, [*chosen, IGNORE, BACKGROUND])
            raise RequestError(f"data.class_map: {name} becomes {target!r}, which is no class{hint}")
    if not chosen:
        raise RequestError("the training part has no objects")
    return tuple(chosen)


def _labelling(drawn: Drawn, classes: tuple[str, ...], reading: ObjectReading) -> Drawn:
    """The same drawing with labelled objects; what is drawn has none that are degenerate."""

    def labelled(place: int, turn: int) -> tuple[np.ndarray, Truth]:
        pixels, truth = drawn(place, turn)
        return pixels, _labelled(truth, classes, reading)

    return labelled


def _clean(truth: Truth, size: Iterable[int], name: str, problems: Problems) -> Truth:
    """Clip boxes to the picture; leave out those without an area."""
    if not len(truth):
        return truth
    height, width = size
    good = np.isfinite(truth.boxes).all(1)
    clipped = np.where(good[:, None], np.clip(truth.boxes, 0, [width, height, width, height]), 0)
    good &= (boxes.area(truth.boxes) > 0) & (boxes.area(clipped) > 0)
    for place in np.flatnonzero(~good):
        corners = ", ".join(format(v, "g") for v in truth.boxes[place].tolist())
        problems.add("degenerate boxes", name, f"{truth.names[place]} at {corners}")
    return replace(truth, boxes=clipped.astype(np.float32)).take(np.flatnonzero(good))


def _labelled(truth: Truth, classes: tuple[str, ...], reading: ObjectReading) -> Truth:
    """The objects with labels; background ones are gone."""
    numbers = {name: i for i, name in enumerate(classes)}
    labels, ignored, kept = [], [], []
    for place, name in enumerate(truth.names):
        target = reading.class_map.get(name, name)
        if target not in numbers and target not in (IGNORE, BACKGROUND):
            target = IGNORE if truth.ignored[place] else reading.unlisted
        if target == BACKGROUND:
            continue
        kept.append(place)
        labels.append(numbers.get(target, ANY))
        ignored.append(target == IGNORE)
    return truth.take(kept).with_labels(labels, np.array(ignored, bool))
