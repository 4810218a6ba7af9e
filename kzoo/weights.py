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

from kzoo import console, vetting
from kzoo.errors import RequestError, first_line
from kzoo.files import atomic
from kzoo.run import Run
from kzoo.vetting.arrays import header
from kzoo.vetting.limits import MOST_DOCUMENT

_DOCUMENT = "document"


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
            if archive.getinfo(_DOCUMENT + ".npy").file_size > MOST_DOCUMENT:
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
        new_head: Whether the last layers with weights, of which a detector has several, may start anew where the
            file's have another shape; they are then named. All others must fit.

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
    needed = sum(int(np.prod(v.shape)) * 4 for v in model.variables)
    # Keras files may carry the optimiser's moments and a few counters beside the weights.
    shapes = vetting.check_keras(path, 4 * needed + 65536)
    vetting.check_unchanged(path)
    try:
        if _differs_in_head_alone(model, shapes, spare):
            _load_all_but_the_head(model, path, spare)
        else:
            model.load_weights(path)
    except Exception as error:  # of a damaged HDF5 file too, RuntimeError among them
        raise RequestError(f"{path} does not fit {model.name}: {first_line(error)}") from None


def _differs_in_head_alone(model, shapes: Counter, spare: tuple) -> bool:
    """Whether a file's arrays are the model's, but for those of the head."""
    body = Counter(tuple(w.shape) for w in model.weights if not _among(spare, w))
    return body <= shapes and not Counter(tuple(w.shape) for w in model.weights) <= shapes


def _load_all_but_the_head(model, path: Path, spare: tuple) -> None:
    """Load what fits; that anything else than the head does not is an error, and leaves the model as it was."""
    before = [np.array(v) for v in model.weights]
    # What is no number afterwards was skipped; comparing with the start would take a constant for one.
    for variable in model.weights:
        variable.assign(np.full(variable.shape, np.nan))
    with warnings.catch_warnings():
        # Keras counts what it skips; which it was is told below.
        warnings.simplefilter("ignore")
        model.load_weights(path, skip_mismatch=True)
    skipped = [v for v in model.weights if np.isnan(np.array(v)).all()]
    wrong = [v for v in skipped if not _among(spare, v)]
    for variable, value in zip(model.weights, before, strict=True):
        if wrong or _among(skipped, variable):
            variable.assign(value)
    if wrong:
        raise ValueError(f"{wrong[0].path} is {tuple(wrong[0].shape)} in the model and has another shape in the file")
    _tell(path, skipped)


def _head(model) -> tuple:
    """Variables of the layers behind which none has weights: a classifier's last one, all of a detector's heads."""
    import keras

    found, followed = [], set()
    for layer in reversed(model.layers):
        if layer.weights and layer.name not in followed:
            found += layer.weights
        if layer.weights or layer.name in followed:
            followed |= {t._keras_history.operation.name for t in keras.tree.flatten(layer.input)}
    return tuple(found)


def _among(variables, variable) -> bool:
    return any(v is variable for v in variables)


def _tell(path: Path, anew: list) -> None:
    if anew:
        names = ", ".join(f"{v.path} {tuple(v.shape)}" for v in anew)
        console.say(f"loaded {path} all but its head, which starts anew: {names}")


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
    shape, dtype = header(archive, name)
    if spare and shape != tuple(variable.shape):
        return None
    if shape != tuple(variable.shape) or dtype != np.dtype(variable.dtype):
        raise RequestError(
            f"{path} does not fit: {variable.path} is {tuple(variable.shape)} {variable.dtype}, stored {shape} {dtype}"
        )
    return _array(archive, name)
