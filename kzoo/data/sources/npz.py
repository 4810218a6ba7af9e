"""A NumPy archive, in the layout that Keras's own data sets use."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from kzoo.data.images import Collection, Images, fitted
from kzoo.data.reading import Reading
from kzoo.errors import RequestError


def open_source(path: str, reading: Reading) -> Collection:
    """Open ``npz:PATH`` with ``x_train, y_train`` and, optionally, ``x_val, y_val``, ``x_test, y_test``, ``classes``.

    Images are (count, height, width) or (count, height, width, channels), uint8, or floats from 0 to 1.
    """
    file = Path(path).expanduser()
    try:
        with zipfile.ZipFile(file), np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise RequestError(f"{file} cannot be read as .npz: {error}") from None
    parts = {}
    for part, suffix in (("train", "train"), ("validation", "val"), ("test", "test")):
        if f"x_{suffix}" in arrays:
            if f"y_{suffix}" not in arrays:
                raise RequestError(f"{file} holds x_{suffix} and no y_{suffix}")
            labels = _labels(arrays[f"y_{suffix}"], f"{file}: y_{suffix}")
            parts[part] = Images(_pixels(arrays[f"x_{suffix}"], f"{file}: x_{suffix}", reading), labels)
            if len(parts[part].pixels) != len(labels):
                raise RequestError(f"{file}: x_{suffix} and y_{suffix} differ in length")
    if "train" not in parts:
        raise RequestError(f"{file} holds {sorted(arrays)}; x_train and y_train are needed")
    count = 1 + max(int(p.labels.max()) for p in parts.values())
    classes = tuple(str(c) for c in arrays.get("classes", np.arange(count)))
    if len(set(classes)) != len(classes):
        raise RequestError(f"{file}: classes names a class twice")
    if min(int(p.labels.min()) for p in parts.values()) < 0 or count > len(classes):
        raise RequestError(f"{file}: labels must be from 0 to {len(classes) - 1}")
    return Collection(parts, classes)


def check(path: str, reading: Reading) -> None:
    """Raise where there is no such file."""
    if not Path(path).expanduser().is_file():
        raise RequestError(f"data.source npz:{path}: there is no such file")


def located(path: str, reading: Reading) -> dict:
    """The source with an absolute path."""
    return {"source": f"npz:{Path(path).expanduser().resolve()}"}


def _labels(values: np.ndarray, place: str) -> np.ndarray:
    """Class numbers, one for each image."""
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or not np.issubdtype(values.dtype, np.integer) or not len(values):
        raise RequestError(f"{place} must be class numbers (count,), not {values.dtype} {values.shape}")
    return values


def _pixels(values: np.ndarray, place: str, reading: Reading) -> np.ndarray:
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4 or values.shape[-1] not in (1, 3):
        raise RequestError(f"{place} must be (count, height, width[, 1 or 3]), not {values.shape}")
    if np.issubdtype(values.dtype, np.floating):
        if values.size and (values.min() < 0 or values.max() > 1 or not np.isfinite(values).all()):
            raise RequestError(f"{place} holds floats outside 0 to 1; store uint8 from 0 to 255 instead")
        values = np.round(values * 255).astype(np.uint8)
    elif values.dtype != np.uint8:
        raise RequestError(f"{place} must be uint8 or floats, not {values.dtype}")
    return fitted(values, reading)
