"""Weights on disk: the zoo's own checkpoints, and loading any of its artefacts safely.

A checkpoint is one ``.npz`` of plain arrays. It holds every ``model.variables`` entry, seed-generator states included
(Keras's own formats leave them out, and a resumed run would replay its dropout masks), the optimiser's variables, and
a JSON document of whatever else a resumed training needs.

No file here can run code: the network is rebuilt from its registered builder, and only arrays are read. Those of a
checkpoint are compared with the built network's in shape and type first; for Keras's formats the total size that a file
declares is bounded before Keras reads it and compares the shapes.
"""

import json
import warnings
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kzoo import console
from kzoo.errors import RequestError
from kzoo.run import Run, atomic

_DOCUMENT = "document"
_MOST_DOCUMENT = 1 << 24  # bytes


def save_checkpoint(path: Path, model, document: dict, optimizer=None, carried: Sequence = ()) -> None:
    """Write a checkpoint atomically.

    Args:
        path: Where to; a former checkpoint there is replaced only once the new one is safely on disk.
        model: The model whose variables are kept.
        document: JSON values that travel with the arrays.
        optimizer: Its variables are kept too, if it is given.
        carried: Further variables that a training goes on from, such as a recurrent network's state.
    """
    arrays = _values("model", model.variables)
    if optimizer is not None:
        arrays |= _values("optimizer", optimizer.variables)
    arrays |= _values("carried", carried)
    arrays[_DOCUMENT] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    with atomic(path) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **arrays)


def load_checkpoint(path: Path, model, optimizer=None, *, carried: Sequence = (), spare: tuple = ()) -> dict:
    """Restore a checkpoint into a model of the same network.

    Args:
        path: A file that `save_checkpoint` wrote.
        model: The built model.
        optimizer: A built optimiser, whose variables are restored too if it is given.
        carried: What `save_checkpoint` was given as such.
        spare: Variables that keep their values where the file's have another shape.

    Returns:
        The checkpoint's document.

    Raises:
        RequestError: The file is damaged, or holds other shapes than the model.
    """
    wanted = [("model", v) for v in model.variables]
    wanted += [("optimizer", v) for v in optimizer.variables] if optimizer is not None else []
    wanted += [("carried", v) for v in carried]
    try:
        with zipfile.ZipFile(path) as archive:
            stored = archive.namelist()
            of_model = [n for n in stored if n.startswith("model/")]
            if len(of_model) != len(model.variables):
                raise RequestError(f"{path} holds {len(of_model)} arrays of a model that has {len(model.variables)}")
            by_place = {n.partition("@")[0]: n for n in stored}
            values = [
                _read(archive, by_place.get(_place(kind, index)), variable, path, _among(spare, variable))
                for kind in dict.fromkeys(k for k, _ in wanted)
                for index, variable in enumerate(v for k, v in wanted if k == kind)
            ]
            if archive.getinfo(_DOCUMENT + ".npy").file_size > _MOST_DOCUMENT:
                raise RequestError(f"{path} holds a document that is too large to be a checkpoint's")
            document = json.loads(_array(archive, _DOCUMENT + ".npy").tobytes())
    except RequestError:
        raise
    except Exception as error:  # a damaged archive raises one of a dozen types
        raise RequestError(f"{path} cannot be read as a checkpoint: {error}") from None
    for (_, variable), value in zip(wanted, values, strict=True):
        if value is not None:
            variable.assign(value)
    _tell(path, [v for (_, v), value in zip(wanted, values, strict=True) if value is None])
    return document


def load_into(model, source: str | Path, *, new_head: bool = False) -> None:
    """Fill a built model with the weights of a run folder or an artefact.

    Args:
        model: The built model.
        source: A run folder, or a ``.keras``, ``.h5``, ``.weights.h5`` or ``.npz`` file.
        new_head: Whether the last layer with weights may start anew where the file's has another shape; it is then
            named. All others must fit.

    Raises:
        RequestError: There is no such file, or its arrays do not fit.
    """
    source, spare = Path(source), _head(model) if new_head else ()
    if source.is_dir():
        load_checkpoint(Run(source).weights, model, spare=spare)
    elif not source.is_file():
        raise RequestError(f"there are no weights at {source}")
    elif source.suffix == ".npz":
        load_checkpoint(source, model, spare=spare)
    elif source.suffix in (".h5", ".keras"):
        _load_keras_file(model, source, spare)
    else:
        raise RequestError(f"weights come from a run folder, .keras, .h5, .weights.h5 or .npz, not {source.name}")


def _load_keras_file(model, path: Path, spare: tuple) -> None:
    """Read only arrays from one of Keras's formats, once the file declares no more than the model holds."""
    import h5py

    needed = sum(int(np.prod(v.shape)) * 4 for v in model.variables)
    try:
        if path.suffix == ".keras":
            with zipfile.ZipFile(path) as archive:
                _refuse_zip_bombs(path, archive, needed)
                with archive.open("model.weights.h5") as member:
                    shapes = _refuse_bombs(path, h5py.File(member, "r"), needed)
                _refuse_code(path, archive.read("config.json"))
        else:
            shapes = _refuse_bombs(path, h5py.File(path, "r"), needed)
        if _differs_in_head_alone(model, shapes, spare):
            _load_all_but_the_head(model, path, spare)
        else:
            model.load_weights(path)
    except RequestError:
        raise
    except Exception as error:  # so does a damaged HDF5 file, RuntimeError among them
        reason = str(error).partition("\n")[0]
        raise RequestError(f"{path} does not fit {model.name}: {reason}") from None


def _differs_in_head_alone(model, shapes: Counter, spare: tuple) -> bool:
    """Whether a file's arrays are the model's, but for those of the head."""
    body = Counter(tuple(w.shape) for w in model.weights if not _among(spare, w))
    return body <= shapes and not Counter(tuple(w.shape) for w in model.weights) <= shapes


def _load_all_but_the_head(model, path: Path, spare: tuple) -> None:
    """Load what fits; that anything else than the head does not is an error, and leaves the model as it was."""
    before = [np.array(v) for v in model.variables]
    with warnings.catch_warnings():
        # Keras counts what it skips; which it was is told below.
        warnings.simplefilter("ignore")
        model.load_weights(path, skip_mismatch=True)
    # A kernel that is what it was was skipped; biases and statistics may be equal because both are new.
    pairs = [(v, b) for v, b in zip(model.variables, before, strict=True) if not _among(spare, v)]
    wrong = [v for v, b in pairs if v.path.endswith("kernel") and np.array_equal(v, b)]
    if wrong:
        for variable, value in zip(model.variables, before, strict=True):
            variable.assign(value)
        raise ValueError(f"{wrong[0].path} is {tuple(wrong[0].shape)} in the model and has another shape in the file")
    _tell(path, list(spare))


def _head(model) -> tuple:
    """Variables of the last layer with weights."""
    return tuple(next(layer for layer in reversed(model.layers) if layer.weights).weights)


def _among(variables, variable) -> bool:
    return any(v is variable for v in variables)


def _tell(path: Path, anew: list) -> None:
    if anew:
        names = ", ".join(f"{v.path} {tuple(v.shape)}" for v in anew)
        console.say(f"loaded {path} all but its head, which starts anew: {names}")


def _refuse_bombs(path: Path, file, needed: int) -> Counter:
    """A small file can declare gigabytes, or point outside itself: compare before anything is read.

    Returns:
        How many arrays of each shape the file holds.
    """
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
        _refuse_code(path, file.attrs.get("model_config", "{}"))
    # Keras files may carry the optimiser's moments and a few counters beside the weights.
    if declared > 4 * needed + 65536:
        raise RequestError(f"{path} declares {declared:,} bytes of arrays, and the model has {needed:,}")
    return shapes


def _refuse_zip_bombs(path: Path, archive: zipfile.ZipFile, needed: int) -> None:
    """A zip of a few kilobytes can hold gigabytes, and members that would be written elsewhere if they were extracted.

    Nothing is extracted here; such a file is refused because it is none of the zoo's.
    """
    most = {"config.json": _MOST_DOCUMENT, "metadata.json": _MOST_DOCUMENT, "model.weights.h5": 4 * needed + (1 << 20)}
    for member in archive.infolist():
        if member.filename not in most:
            raise RequestError(f"{path} holds {member.filename!r}, which is no part of a model of the zoo")
        if member.file_size > most[member.filename]:
            raise RequestError(
                f"{path} holds {member.filename} of {member.file_size:,} bytes, and {most[member.filename]:,} is the "
                "most that a file of this model needs"
            )


def _refuse_code(path: Path, text: str | bytes) -> None:
    """Refuse a configuration with code or with classes that neither Keras nor the zoo has.

    It is not used here, since the zoo rebuilds the network itself. But others would read the same file.
    """
    if len(text) > _MOST_DOCUMENT:
        raise RequestError(f"{path} has a configuration of {len(text):,} bytes, which is too large to be a model's")

    def walk(value) -> None:
        if isinstance(value, dict):
            name, module = value.get("class_name"), value.get("module")
            if name in ("Lambda", "__lambda__", "TFSMLayer", "function"):
                raise RequestError(f"{path} brings code ({name}), which the zoo does not run")
            if isinstance(module, str) and module.partition(".")[0] not in ("keras", "kzoo"):
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


def _place(kind: str, index: int) -> str:
    return f"{kind}/{index:05d}"


def _values(kind: str, variables) -> dict[str, np.ndarray]:
    # The path after "@" is for readers; the place decides, because Keras numbers some paths anew in each process.
    return {f"{_place(kind, i)}@{v.path}": np.asarray(v) for i, v in enumerate(variables)}


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with archive.open(name) as member:
        return np.lib.format.read_array(member, allow_pickle=False)


def _read(archive: zipfile.ZipFile, name: str | None, variable, path: Path, spare: bool) -> np.ndarray | None:
    """Read one array once its header agrees with the variable; None for a spare one that does not agree."""
    if name is None:
        raise RequestError(f"{path} holds no value for {variable.path}")
    with archive.open(name) as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(member)
    if spare and shape != tuple(variable.shape):
        return None
    if shape != tuple(variable.shape) or dtype != np.dtype(variable.dtype):
        raise RequestError(
            f"{path} does not fit: {variable.path} is {tuple(variable.shape)} {variable.dtype}, stored {shape} {dtype}"
        )
    return _array(archive, name)
