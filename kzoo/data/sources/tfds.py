"""TensorFlow Datasets: what lies prepared on disk, or fetched when the recipe says so."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kzoo import cache, console
from kzoo.data.images import MEMORY_SHARE, Collection, Images
from kzoo.data.reading import Reading
from kzoo.errors import RequestError, WorkError, first_line

_PARTS = ("train", "validation", "test")


def open_source(name: str, reading: Reading) -> Collection:
    """Open ``tfds:NAME`` (or ``NAME/CONFIG:VERSION``), an image classification set of TFDS.

    Looks on disk first, so that without a network the answer comes at once: TFDS itself retries a download for minutes.
    A validation or test part whose labels are kept secret, such as the test part of ``imagenet2012``, is none.
    """
    builder = open_builder(name, reading)
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise RequestError(f"tfds:{name} has the features {sorted(features)}; classification needs image and label")
    present = [part for part in _PARTS if part in builder.info.splits]
    if "train" not in present:
        raise RequestError(f"tfds:{name} has the splits {sorted(builder.info.splits)}, and no train")
    parts = {part: _part(builder, part, reading) for part in present if part == "train" or _is_labelled(builder, part)}
    return Collection(parts, tuple(features["label"].names))


def check(name: str, reading: Reading) -> None:
    """Raise where the set is not prepared and may not be fetched, or cannot be cached as asked."""
    if reading.cache == "none":
        raise RequestError("data.cache none is for folders; a tfds source takes auto, memory or disk")
    require(name, reading)


def require(name: str, reading) -> None:
    """Raise where the set is not prepared and may not be fetched.

    Args:
        name: The set's name, with ``/CONFIG`` and ``:VERSION`` if wanted.
        reading: Its ``data_dir`` and ``download`` are looked at.
    """
    folder = _folder(reading)
    if _prepared(name, folder):
        return
    place = folder / name.partition(":")[0]
    if not reading.download:
        raise RequestError(
            f"tfds:{name} is not prepared at {place}: name a folder that holds it (--set data.data_dir=FOLDER or "
            "TFDS_DATA_DIR), or allow the download with --set data.download=true"
        )
    if not _reachable():
        raise RequestError(
            f"tfds:{name} cannot be fetched: there is no network; put the prepared data at {place} instead"
        )


def located(name: str, reading: Reading) -> dict:
    """The source and the folder that it is found in."""
    return {"source": f"tfds:{name}", "data_dir": str(_folder(reading).resolve())}


def _folder(reading) -> Path:
    return Path(reading.data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def _reachable() -> bool:
    """Whether the host is there that TFDS asks first; TFDS itself would retry for minutes."""
    try:
        socket.create_connection(("storage.googleapis.com", 443), timeout=4).close()
    except OSError:
        return False
    return True


def _prepared(name: str, folder: Path) -> bool:
    base = folder / name.partition(":")[0]
    return base.is_dir() and any(base.rglob("dataset_info.json"))


def open_builder(name: str, reading):
    """TFDS's builder of a set, prepared.

    Args:
        name: The set's name, with ``/CONFIG`` and ``:VERSION`` if wanted.
        reading: Its ``data_dir`` is looked at.

    Raises:
        RequestError: TFDS has no such set.
        WorkError: It cannot be fetched.
    """
    import tensorflow_datasets as tfds

    folder = _folder(reading)
    try:
        builder = tfds.builder(name, data_dir=str(folder))
    except Exception as error:  # TFDS raises many kinds for a name it does not know
        raise RequestError(f"tfds:{name} cannot be opened: {first_line(error)}") from None
    if not _prepared(name, folder):
        _download(builder, name, folder)
    return builder


def _download(builder, name: str, folder: Path) -> None:
    """Fetch with TFDS, which checks the checksums."""
    size = builder.info.download_size or "size not stated"
    console.say(f"fetching tfds:{name} ({size}) from {builder.info.homepage or name} to {folder}")
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise WorkError(f"fetching tfds:{name} failed: {first_line(error)}") from error


def _is_labelled(builder, split: str) -> bool:
    """Whether some example of a split has a label; TFDS writes -1 where there is none."""
    import tensorflow_datasets as tfds

    examples = builder.as_dataset(split=split, decoders=tfds.decode.PartialDecoding({"label": True}))
    return any(int(example["label"]) >= 0 for example in examples)


def _part(builder, split: str, reading: Reading) -> Images:
    """Decode one split into one array, in memory or in a file of the cache folder."""
    import psutil
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from kzoo.data import decode

    count = builder.info.splits[split].num_examples
    stored = builder.info.features["image"].shape
    channels = reading.channels or stored[2] or 3
    size = reading.size or (stored[0], stored[1])
    if None in size:
        raise RequestError(
            f"images of tfds:{builder.info.name} differ in size: say data.image_size, for example [224, 224]"
        )
    shape = (count, *size, channels)
    path = None
    fits = int(np.prod(shape)) < MEMORY_SHARE * psutil.virtual_memory().available
    if reading.cache == "disk" or (reading.cache != "memory" and not fits):
        identity = [str(builder.data_dir), builder.info.full_name, split, shape, reading.fit]
        path = cache.entry("decoded", identity, ".npy")
    # deterministic order: a split's index is part of what "the same seed" means
    options = tf.data.Options()
    options.deterministic = True
    examples = builder.as_dataset(split=split, decoders={"image": tfds.decode.SkipDecoding()}).with_options(options)

    def read(example):
        image = decode.decode(example["image"], channels)
        if tuple(size) != tuple(stored[:2]):
            image = decode.resize(image, size, reading.fit)
        return tf.ensure_shape(image, shape[1:]), example["label"]

    labels, start = np.zeros(count, np.int64), 0
    with _room(shape, path) as pixels:
        for batch, numbers in examples.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(1024).prefetch(2):
            stop = start + len(numbers)
            if pixels.flags.writeable:
                pixels[start:stop] = batch.numpy()
            labels[start:stop] = numbers.numpy()
            start = stop
        if missing := int((labels < 0).sum()):
            raise RequestError(f"tfds:{builder.info.name}: {missing:,} of {count:,} images of {split} have no label")
    return Images(pixels if path is None else np.load(path, mmap_mode="r"), labels)


@contextlib.contextmanager
def _room(shape: tuple, path: Path | None) -> Iterator[np.ndarray]:
    """An array to fill, in memory or in a file that is there once it is full; where it is already, it is read-only."""
    if path is None:
        yield np.empty(shape, np.uint8)
    elif path.is_file():
        yield np.load(path, mmap_mode="r")
    else:
        with cache.filling(path, np.uint8, shape) as pixels:
            yield pixels
