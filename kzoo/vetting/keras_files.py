"""Keras's files, which may bring code, point outside themselves, and hold gigabytes in kilobytes."""

import json
import zipfile
from collections import Counter
from pathlib import Path

from kzoo.errors import RequestError, first_line
from kzoo.vetting.limits import MOST_DOCUMENT

# Where the classes of a network's configuration are: layers, what they start from, and how they compute.
_MODULES = {
    "keras",
    "keras.layers",
    "keras.initializers",
    "keras.regularizers",
    "keras.constraints",
    "keras.dtype_policies",
    "keras.quantizers",
    "keras.models",
    "keras.src.models.functional",
    "keras.src.models.sequential",
}
_CODE = {"Lambda", "__lambda__", "function", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer"}
# Their vocabulary may be a file's name, which is read as they are made.
_READING = {"StringLookup", "IntegerLookup", "TextVectorization"}


def check_keras(path: Path, most: int | None = None) -> Counter:
    """Refuse a ``.keras`` or ``.h5`` file that brings code, points outside itself or declares arrays beyond measure.

    Args:
        path: The file.
        most: Bytes that its arrays may have; default: what it has itself, since the zoo compresses nothing.

    Returns:
        How many arrays of each shape it holds.

    Raises:
        RequestError: It does, or is damaged, or has parts that no file of the zoo has.
    """
    import h5py

    try:
        most = path.stat().st_size if most is None else most
        if path.suffix == ".h5":
            return _arrays(path, h5py.File(path, "r"), most)
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive, most)
            with archive.open("model.weights.h5") as member:
                shapes = _arrays(path, h5py.File(member, "r"), most)
            _check_config(path, archive.read("config.json"))
            return shapes
    except RequestError:
        raise
    except Exception as error:  # a damaged zip or HDF5 file raises one of a dozen types
        raise RequestError(f"{path} cannot be opened: it is damaged ({first_line(error)})") from None


def _check_members(path: Path, archive: zipfile.ZipFile, most: int) -> None:
    """A zip of a few kilobytes can hold gigabytes, and members that would be written elsewhere if they were extracted.

    Nothing is extracted here; such a file is refused because it is none of the zoo's.
    """
    sizes = {"config.json": MOST_DOCUMENT, "metadata.json": MOST_DOCUMENT, "model.weights.h5": most + (1 << 20)}
    for member in archive.infolist():
        if member.filename not in sizes:
            raise RequestError(f"{path} holds {member.filename!r}, which is no part of a model of the zoo")
        if member.file_size > sizes[member.filename]:
            raise RequestError(
                f"{path} holds {member.filename} of {member.file_size:,} bytes, and {sizes[member.filename]:,} is the "
                "most that a file of this model needs"
            )


def _arrays(path: Path, file, most: int) -> Counter:
    """A small file can declare gigabytes, or point outside itself: look before anything is read."""
    import h5py

    declared, shapes = 0, Counter()

    def walk(group) -> None:
        nonlocal declared
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise RequestError(f"{path} links to something outside itself ({name})")
            member = group[name]
            if isinstance(member, h5py.Group):
                walk(member)
            elif member.external or member.is_virtual:
                raise RequestError(f"{path} keeps {name} outside itself")
            else:
                declared += member.size * member.dtype.itemsize
                shapes[member.shape] += 1

    with file:
        walk(file)
        _check_config(path, file.attrs.get("model_config", "{}"))
    if declared > most:
        raise RequestError(f"{path} declares {declared:,} bytes of arrays, and {most:,} is the most it may")
    return shapes


def _check_config(path: Path, text: str | bytes) -> None:
    """Refuse a configuration with code or with classes that neither Keras nor the zoo has.

    The zoo rebuilds the network itself and does not use it. But others read the same file, plain Keras among them, in
    which an export is verified.
    """
    if len(text) > MOST_DOCUMENT:
        raise RequestError(f"{path} has a configuration of {len(text):,} bytes, which is too large to be a model's")

    def walk(value) -> None:
        if isinstance(value, dict):
            name, module = value.get("class_name"), value.get("module")
            kind = name.rpartition(">")[2] if isinstance(name, str) else name
            if kind in _CODE:
                raise RequestError(f"{path} brings code ({name}), which the zoo does not run")
            if kind in _READING:
                raise RequestError(f"{path} has a {name}, which may read other files, and none of the zoo's networks")
            if module is not None and not _is_known(module):
                raise RequestError(f"{path} asks for {module}.{name}, and only Keras and the zoo have layers for it")
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    try:
        walk(json.loads(text))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        raise RequestError(f"{path} has a configuration that is no JSON") from None


def _is_known(module) -> bool:
    return isinstance(module, str) and (module in _MODULES or module.startswith("kzoo.models."))
