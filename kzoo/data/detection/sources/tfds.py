"""TensorFlow Datasets with objects: ``kitti``, ``voc``, ``coco`` and what has features of their form."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kzoo import cache
from kzoo.data.detection.collection import MEMORY_SHARE, ObjectReading, Pictures, Problems, Raw
from kzoo.data.detection.truth import Truth, truth
from kzoo.data.sources import tfds as prepared
from kzoo.errors import RequestError, first_line

_PARTS = ("train", "validation", "test")
# Names of the features in the sets of TFDS; the first that is there is taken.
_CLASS, _FILE = ("type", "label"), ("image/file_name", "image/filename", "file_name", "filename")


def open_source(name: str, reading: ObjectReading, problems: Problems) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """Open ``tfds:NAME`` (or ``NAME/CONFIG:VERSION``).

    TFDS stores the boxes of ``kitti`` upside down, and without DontCare: they are turned back here, but KITTI's
    protocol needs the folder. A test part without any object, as that of ``coco``, is none.
    """
    builder = prepared.open_builder(name, reading)
    features = builder.info.features
    # A sequence of dictionaries has its dictionary at `feature`.
    objects = getattr(features["objects"], "feature", None) if {"image", "objects"} <= set(features) else None
    label = next((n for n in _CLASS if n in (objects or ())), None)
    if label is None or "bbox" not in objects:
        raise RequestError(
            f"tfds:{name} has the features {sorted(features)}; detection needs image, and objects with bbox and label"
        )
    splits = reading.parts or {part: part for part in _PARTS if part in builder.info.splits}
    if "train" not in splits:
        raise RequestError(f"tfds:{name} has the splits {sorted(builder.info.splits)}, and no train: say data.parts")
    upside_down = name.partition(":")[0].partition("/")[0] == "kitti"
    parts = {}
    for part, split in splits.items():
        raw = _part(builder, split, label, reading, problems, upside_down)
        if part != "test" or any(len(t) for t in raw.truths):
            parts[part] = raw
    return parts, tuple(objects[label].names or ())


def check(name: str, reading: ObjectReading) -> None:
    """Raise where the set is not prepared and may not be fetched."""
    prepared.require(name, reading)


def located(name: str, reading: ObjectReading) -> dict:
    """The source and the folder that it is found in."""
    return prepared.located(name, reading)


def _part(builder, split: str, label: str, reading: ObjectReading, problems: Problems, upside_down: bool) -> Raw:
    import tensorflow_datasets as tfds

    try:
        dataset = builder.as_dataset(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}, read_config=_in_order(tfds)
        )
    except Exception as error:  # TFDS raises many kinds for a split it does not know
        raise RequestError(f"data.parts: tfds:{builder.info.name} has no {split!r}: {first_line(error)}") from None
    if reading.limit:
        dataset = dataset.take(reading.limit)
    names = builder.info.features["objects"].feature[label].int2str
    called, sizes, truths = [], [], []
    with _Store(builder, split, reading.limit) as store:
        for number, example in enumerate(tfds.as_numpy(dataset)):
            store.add(example["image"])
            name = next((example[k].decode() for k in _FILE if k in example), f"{split} {number}")
            size = _size(example["image"])
            if size is None:
                problems.add("unreadable pictures", name, "no picture")
                store.drop()
                continue
            called.append(name)
            sizes.append(size)
            truths.append(_truth(example["objects"], label, names, size, upside_down))
    encoded = store.open()

    def read(place: int) -> np.ndarray:
        from kzoo.data import decode

        return decode.image(encoded(place), None, reading.channels, "stretch")

    return Raw(Pictures(called, np.array(sizes), read), truths)


def _truth(objects: dict, label: str, names, size: tuple[int, int], upside_down: bool) -> Truth:
    (height, width), relative = size, np.asarray(objects["bbox"], np.float64).reshape(-1, 4)
    top, left, bottom, right = relative.T
    if upside_down:
        top, bottom = 1 - bottom, 1 - top
    corners = np.stack([left * width, top * height, right * width, bottom * height], -1)
    count = len(corners)
    crowd = np.asarray(objects.get("is_crowd", np.zeros(count)), bool)
    return truth(
        corners,
        [names(int(n)) for n in objects[label]],
        ignored=crowd | np.asarray(objects.get("is_difficult", np.zeros(count)), bool),
        regions=crowd,
        truncation=objects.get("truncated"),
        occlusion=objects.get("occluded"),
    )


def _in_order(tfds):
    """A split's order is part of what "the same seed" means."""
    return tfds.ReadConfig(interleave_cycle_length=1)


def _size(encoded: bytes) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded)) as picture:
            return picture.height, picture.width
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    with cache.making(path) as temporary, temporary.open("wb") as file:
        yield file


class _Store(contextlib.ExitStack):
    """Encoded pictures by number: in memory where they fit, else in a file of the cache folder, which is kept.

    It is filled inside ``with``, and opened afterwards.
    """

    def __init__(self, builder, split: str, limit: int | None):
        import psutil

        super().__init__()
        known = builder.info.splits.get(split)
        large = (known.num_bytes if known else builder.info.dataset_size or 0) or 0
        self.spans, self.end, self.path, self.file, self.held = [], 0, None, None, []
        if large > MEMORY_SHARE * psutil.virtual_memory().available and not limit:
            identity = [str(builder.data_dir), builder.info.full_name, split, limit]
            self.path = cache.entry("encoded", identity, ".bin")
            if not self.path.is_file():
                self.file = self.enter_context(_new_file(self.path))

    def add(self, encoded: bytes) -> None:
        """Take the next picture."""
        if self.path is None:
            self.held.append(encoded)
            return
        self.spans.append((self.end, self.end + len(encoded)))
        self.end += len(encoded)
        if self.file is not None:
            self.file.write(encoded)

    def drop(self) -> None:
        """Forget the last picture; its bytes may stay in the file."""
        (self.held if self.path is None else self.spans).pop()

    def open(self):
        """What gives a picture's bytes."""
        if self.path is None:
            return self.held.__getitem__
        content = np.memmap(self.path, np.uint8, "r")
        return lambda place: content[slice(*self.spans[place])].tobytes()
