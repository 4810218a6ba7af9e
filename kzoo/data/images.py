"""Labelled images with random access, held in memory, on disk, or decoded when asked for."""

import concurrent.futures
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kzoo.data.reading import Reading
from kzoo.data.spacing import spaced
from kzoo.errors import RequestError, first_line

# A decoded collection is kept in memory by itself up to this share of what is free.
MEMORY_SHARE = 0.4


class Images:
    """Images in memory or in a memory-mapped file.

    Attributes:
        pixels: uint8, (count, height, width, channels).
        labels: int64, (count,), class numbers.
    """

    def __init__(self, pixels: np.ndarray, labels: np.ndarray):
        self.pixels, self.labels = pixels, np.asarray(labels, np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return tuple(self.pixels.shape[1:])

    def take(self, indices: np.ndarray) -> "Images":
        """The images at these places, as a view that copies no pixels."""
        return _Part(self, np.asarray(indices))

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and labels at these places; unreadable ones are left out."""
        return self.pixels[indices], self.labels[indices]


class _Part(Images):
    """Some images of another collection."""

    def __init__(self, whole: Images, places: np.ndarray):
        self.whole, self.places, self.labels = whole, places, whole.labels[places]

    @property
    def pixels(self) -> np.ndarray:
        return self.whole.pixels[self.places]

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.whole.shape

    def take(self, indices: np.ndarray) -> Images:
        return _Part(self.whole, self.places[indices])

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.whole.batch(self.places[indices])


class FileImages(Images):
    """Images decoded from their files each time they are asked for."""

    def __init__(self, paths: Sequence[Path], labels: np.ndarray, reader: "Reader", shape: tuple[int, int, int]):
        self.paths, self.labels, self.reader = list(paths), np.asarray(labels, np.int64), reader
        self._shape = shape

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels."""
        return self._shape

    @property
    def pixels(self) -> np.ndarray:
        """All pixels, decoded now."""
        return self.batch(np.arange(len(self)))[0]

    def batch(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels and labels at these places; unreadable ones are left out."""
        pixels, kept = self.reader.read([self.paths[i] for i in indices], self._shape)
        return pixels, self.labels[indices][kept]


@dataclass
class Collection:
    """A data set: its parts, its classes, and what could not be read.

    Attributes:
        parts: Images by part: ``train`` always, ``validation`` and ``test`` where the source has them.
        classes: Class names; a label is an index into them.
        unreadable: Files that were skipped, with the reason.
    """

    parts: dict[str, Images]
    classes: tuple[str, ...]
    unreadable: dict[str, str] = field(default_factory=dict)


class Reader:
    """Decodes image files in parallel; an unreadable one stops the work or is skipped and remembered, as asked."""

    def __init__(self, reading: Reading):
        self.reading, self.unreadable = reading, {}
        self._lock = threading.Lock()
        self._pool = concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2))

    def read(self, paths: Sequence[Path], shape: tuple[int, int, int] | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Read files as one array.

        Args:
            paths: The files.
            shape: Height, width and channels that all of them must have; None for those of the first.

        Returns:
            uint8 (count, height, width, channels) of the readable ones, and the places in `paths` that these have.

        Raises:
            RequestError: A file is unreadable and `on_corrupt` is "stop", or sizes differ and none is asked for.
        """
        arrays = list(self._pool.map(self._read_one, paths))
        kept = np.array([i for i, a in enumerate(arrays) if a is not None], np.int64)
        found = [arrays[i] for i in kept]
        if not found:
            return np.zeros((0, *(shape or (0, 0, 0))), np.uint8), kept
        shape = shape or found[0].shape
        for i in kept:
            if arrays[i].shape != shape:
                remedy = "data.channels, 1 or 3"
                if arrays[i].shape[:2] != shape[:2]:
                    remedy = "data.image_size, for example [224, 224]"
                raise RequestError(
                    f"images differ in size ({paths[i]} is {_size(arrays[i].shape)}, others are {_size(shape)}): "
                    f"say {remedy}"
                )
        return np.stack(found), kept

    def _read_one(self, path: Path) -> np.ndarray | None:
        from kzoo.data import decode

        try:
            return decode.image(Path(path).read_bytes(), self.reading.size, self.reading.channels, self.reading.fit)
        except (ValueError, OSError) as error:
            reason = first_line(error)
            if self.reading.on_corrupt == "stop":
                raise RequestError(f"{path} cannot be read as an image: {reason}") from None
            with self._lock:
                self.unreadable[str(path)] = reason
            return None


def from_files(paths: Sequence[Path], labels: Sequence[int], reader: Reader) -> Images:
    """Images of files, decoded at once where they fit in memory, else each time.

    Raises:
        RequestError: No file can be read, or see `Reader.read`.
    """
    import psutil

    labels, reading = np.asarray(labels, np.int64), reader.reading
    # The first readable file tells the size of all.
    shape = None
    for path in paths:
        pixels, _ = reader.read([path])
        if len(pixels):
            shape = pixels.shape[1:]
            break
    if shape is None:
        raise RequestError(f"none of the {len(paths)} images can be read, {paths[0]} for one")
    size = len(paths) * int(np.prod(shape))
    fits = size < MEMORY_SHARE * psutil.virtual_memory().available
    if reading.cache == "none" or (reading.cache == "auto" and not fits):
        return FileImages(paths, labels, reader, shape)
    pixels, kept = reader.read(paths)
    return Images(pixels, labels[kept])


def hold_out(images: Images, share: float, seed: int) -> tuple[Images, Images]:
    """Split images in two, every class in the same proportion, the same way for the same seed.

    Args:
        images: What is split.
        share: Part of each class that is held out, in (0, 1).
        seed: Fixes the choice.

    Returns:
        What stays and what is held out; a class with a single image stays.
    """
    held = []
    for number in np.unique(images.labels):
        places = np.flatnonzero(images.labels == number)
        count = min(round(share * len(places)), len(places) - 1)
        chosen = np.random.default_rng([seed, int(number)]).permutation(len(places))[:count]
        held.append(places[chosen])
    held_out = np.sort(np.concatenate(held))
    stays = np.setdiff1d(np.arange(len(images)), held_out, assume_unique=True)
    return images.take(stays), images.take(held_out)


def fitted(pixels: np.ndarray, reading: Reading) -> np.ndarray:
    """Images in memory with the channels and of the size that are asked for.

    Args:
        pixels: uint8, (count, height, width, 1 or 3).
        reading: Its ``channels``, ``size`` and ``fit`` are looked at.
    """
    if reading.channels == 1 and pixels.shape[-1] == 3:
        from kzoo.data import decode

        pixels = _piecewise(decode.grey, pixels)
    elif reading.channels == 3 and pixels.shape[-1] == 1:
        pixels = np.repeat(pixels, 3, -1)
    if reading.size is not None and tuple(pixels.shape[1:3]) != tuple(reading.size):
        from kzoo.data import decode

        pixels = _piecewise(lambda part: decode.resize(part, reading.size, reading.fit), pixels)
    return pixels


def _piecewise(change: Callable, pixels: np.ndarray, count: int = 1024) -> np.ndarray:
    """Changed images, so many at once: TensorFlow computes in float32, which takes four times their memory."""
    return np.concatenate([change(pixels[i : i + count]).numpy() for i in range(0, len(pixels), count)])


def channel_statistics(images: Images, limit: int = 10_000) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in pixel units, over at most `limit` evenly spaced images."""
    places = spaced(len(images), limit)
    count, total, squares = 0, 0.0, 0.0
    for start in range(0, len(places), 512):
        pixels, _ = images.batch(places[start : start + 512])
        values = pixels.astype(np.float64).reshape(-1, pixels.shape[-1])
        count, total, squares = count + len(values), total + values.sum(0), squares + (values**2).sum(0)
    mean = total / max(count, 1)
    deviation = np.sqrt(np.maximum(squares / max(count, 1) - mean**2, 1e-6))
    return [round(float(m), 4) for m in mean], [round(float(d), 4) for d in deviation]


def _size(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]}x{shape[1]} with {shape[2]} channels"
