"""TensorFlow Datasets: what lies prepared on disk, or fetched when the recipe says so."""

import hashlib
import json
import os
import socket
from pathlib import Path

import numpy as np

from kzoo import console
from kzoo.data.images import MEMORY_SHARE, Collection, Images
from kzoo.data.reading import Reading
from kzoo.errors import RequestError, WorkError

_PARTS = {"train": "train", "validation": "validation", "test": "test"}


def open_source(name: str, reading: Reading) -> Collection:
    """Open ``tfds:NAME`` (or ``NAME/CONFIG:VERSION``), an image classification set of TFDS.

    Looks on disk first, so that without a network the answer comes at once: TFDS itself retries a download for minutes.
    """
    builder = open_builder(name, reading)
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise RequestError(f"tfds:{name} has the features {sorted(features)}; classification needs image and label")
    present = {part: p for part, p in _PARTS.items() if part in builder.info.splits}
    if "train" not in present:
        raise RequestError(f"tfds:{name} has the splits {sorted(builder.info.splits)}, and no train")
    parts = {part: _part(builder, split, reading) for part, split in present.items()}
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
        raise RequestError(f"tfds:{name} cannot be opened: {str(error).strip().splitlines()[0]}") from None
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
        raise WorkError(f"fetching tfds:{name} failed: {str(error).strip().splitlines()[0]}") from error


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
    key = json.dumps([str(builder.data_dir), builder.info.full_name, split, shape, reading.fit])
    pixels, finish = _storage(shape, key, reading, psutil.virtual_memory().available)
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
    for batch, numbers in examples.map(read, num_parallel_calls=tf.data.AUTOTUNE).batch(1024).prefetch(2):
        stop = start + len(numbers)
        if pixels.flags.writeable:
            pixels[start:stop] = batch.numpy()
        labels[start:stop] = numbers.numpy()
        start = stop
    return Images(finish(), labels)


def _storage(shape: tuple, key: str, reading: Reading, available: int):
    """An array to fill, and what turns it into the finished one once it is full."""
    size = int(np.prod(shape))
    if reading.cache != "disk" and (reading.cache == "memory" or size < MEMORY_SHARE * available):
        pixels = np.empty(shape, np.uint8)
        return pixels, lambda: pixels
    cache = Path(os.environ.get("KZOO_CACHE", "~/.cache/kzoo")).expanduser() / "decoded"
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npy"
    if path.is_file():
        known = np.load(path, mmap_mode="r")
        return known, lambda: known
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    pixels = np.lib.format.open_memmap(temporary, "w+", np.uint8, shape)

    def finish():
        pixels.flush()
        os.replace(temporary, path)
        return np.load(path, mmap_mode="r")

    return pixels, finish
