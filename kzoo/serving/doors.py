"""What can be served, opened: a model's doors, each a function of named arrays."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import versions
from kzoo.artefacts import is_artefact, is_openvino, load_saved_model, read_card
from kzoo.cards import check_card
from kzoo.errors import RequestError
from kzoo.evaluate import open_run, open_subject
from kzoo.quiet import import_keras
from kzoo.ranges import Range
from kzoo.run import Run
from kzoo.serving.calls import Arrays, caller

# The door that is meant where a request names none; TensorFlow Serving's name for it.
DEFAULT = "serving_default"

# TensorFlow Serving's names of the types that come and go as JSON.
TYPES = {
    "bool": "DT_BOOL",
    "float16": "DT_HALF",
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    **{f"{sign}int{bits}": f"DT_{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "string": "DT_STRING",
}


@dataclass(frozen=True)
class Spec:
    """One input or output of a door.

    Attributes:
        dtype: numpy's name of the numbers, or ``string``.
        shape: None where any size fits; a first None is the batch. None as a whole where any shape fits.
        range: Numbers that it takes; None for all that are of its type.
    """

    dtype: str
    shape: tuple[int | None, ...] | None
    range: Range | None = None

    @property
    def batched(self) -> bool:
        """Whether the first axis counts examples."""
        return bool(self.shape) and self.shape[0] is None


@dataclass(frozen=True)
class Door:
    """One way into a model.

    Attributes:
        inputs: What it takes, by name.
        outputs: What it gives, by name.
        call: From arrays by name to arrays by name; strings are arrays of bytes. It raises
            `kzoo.serving.refused.Refused` for a string that cannot be read; any other error is no client's fault.
        example: Arrays that it can be called with, or None.
    """

    inputs: Mapping[str, Spec]
    outputs: Mapping[str, Spec]
    call: Callable[[Arrays], Arrays]
    example: Arrays | None = None

    @property
    def batched(self) -> bool:
        """Whether a call takes any number of examples and gives nothing but answers to each."""
        return any(s.batched for s in self.inputs.values()) and all(s.batched for s in self.outputs.values())


@dataclass(frozen=True)
class Model:
    """A model at work.

    Attributes:
        name: What it is called in an address.
        card: The content of its ``model.json``; empty for a foreign SavedModel.
        doors: By name.
        version: A whole number, as text.
    """

    name: str
    card: Mapping[str, Any]
    doors: Mapping[str, Door]
    version: str = "1"


def open_doors(path: str | Path, name: str | None = None) -> Model:
    """Open a run or an artefact.

    A run and a file answer through the same code as in `kzoo.predict`, whose network is the file's in its own runtime;
    a SavedModel brings that code itself. TensorFlow runs what a SavedModel brings, so one is loaded only if it is made
    of nothing but the operations that networks need; see `kzoo.vetting`.

    Args:
        path: A run's folder; an artefact's file; the folder of an export or of a SavedModel, or one of a model server
            with versions, of which the highest is taken.
        name: What to call the model; default: the network's name in the zoo, or a model server's folder's.

    Raises:
        RequestError: Nothing there can be served, or a SavedModel could do more than compute.
    """
    path = Path(path)
    if (path / "recipe.yaml").is_file():
        run = Run(path)
        return Model(name or run.card["model"], run.card, _of_network(*open_run(run), run.samples))
    if path.is_dir() and not is_openvino(path):
        return _of_folder(path, name)
    if not is_artefact(path):
        there = "it is neither a run nor an artefact" if path.exists() else "there is no such file or folder"
        raise RequestError(f"{path} cannot be served: {there}")
    model, answers = open_subject(path)
    return Model(name or answers.card["model"], answers.card, _of_network(model, answers, answers.blank()))


def _of_folder(path: Path, name: str | None) -> Model:
    """A SavedModel in an export, by itself, or as a version in a model server's folder."""
    if (path / "saved_model" / "saved_model.pb").is_file():
        path = path / "saved_model"
    elif found := versions.present(path):
        path = path / str(found[-1])
    if not (path / "saved_model.pb").is_file():
        files = sorted(p.name for p in path.iterdir() if is_artefact(p) and "-" not in p.stem)  # those are its doors'
        there = f"it holds no SavedModel; name one of its files: {', '.join(files)}" if files else "it is no artefact"
        raise RequestError(f"{path} cannot be served: {there}")
    # A SavedModel of others may have a file of that name that is no card.
    found, place = read_card(path), path.resolve()
    card = check_card(found, f"the model.json of {path}") if isinstance(found, dict) and "task" in found else {}
    if place.name.isdecimal():
        return Model(name or place.parent.name, card, _of_saved_model(path, card), place.name)
    return Model(name or card.get("model") or place.name, card, _of_saved_model(path, card))


def _of_network(model, answers, samples: dict[str, np.ndarray]) -> dict[str, Door]:
    """Doors of a SavedModel's kind, around a network of whatever runtime."""
    import tensorflow as tf

    doors = {}
    for name, signature in answers.signatures(model, samples).items():
        # As in an exported SavedModel: the tasks' functions are TensorFlow operations already.
        traced = tf.function(signature.function, input_signature=signature.inputs, autograph=False)
        concrete = traced.get_concrete_function()
        specs = {spec.name: _spec(spec, answers.ranges) for spec in signature.inputs}
        outputs = {k: _spec(v, {}) for k, v in concrete.structured_outputs.items()}
        doors[name] = Door(specs, outputs, caller(concrete, signature.inputs), _small(signature.example, specs))
    return doors


def _of_saved_model(path: Path, card: Mapping[str, Any]) -> dict[str, Door]:
    import_keras()  # for its quiet way of importing TensorFlow
    from kzoo import tasks

    loaded = load_saved_model(path)
    # What a foreign model's inputs take, their names do not say.
    ranges = tasks.open_answers(card).ranges if card else {}
    doors = {}
    for name, signature in loaded.signatures.items():
        wanted = signature.structured_input_signature[1]
        outputs = {k: _spec(v, {}) for k, v in signature.structured_outputs.items()}
        call = caller(signature, tuple(wanted.values()), keep=loaded)
        doors[name] = Door({k: _spec(v, ranges) for k, v in wanted.items()}, outputs, call)
    if not doors:
        raise RequestError(f"{path} cannot be served: it has no signatures")
    return doors


def _spec(spec, ranges: Mapping[str, Range]) -> Spec:
    shape = None if spec.shape.rank is None else tuple(spec.shape)
    return Spec(spec.dtype.name, shape, None if spec.dtype.name == "string" else ranges.get(spec.name))


def _small(example: Mapping[str, np.ndarray], specs: Mapping[str, Spec]) -> Arrays:
    return {k: np.asarray(v)[:1] if specs[k].batched else np.asarray(v) for k, v in example.items()}


def describe(model: Model) -> dict[str, Any]:
    """The answer to ``GET /v1/models/NAME/metadata``, in TensorFlow Serving's form, with what kzoo knows beside it."""

    def tensors(specs):
        return {
            name: {
                "name": name,
                "dtype": TYPES.get(spec.dtype, spec.dtype),
                "tensor_shape": {
                    "dim": [{"name": "", "size": str(-1 if d is None else d)} for d in spec.shape or ()],
                    "unknown_rank": spec.shape is None,
                },
            }
            for name, spec in specs.items()
        }

    signatures = {
        name: {
            "inputs": tensors(door.inputs),
            "outputs": tensors(door.outputs),
            "method_name": "tensorflow/serving/predict",
        }
        for name, door in model.doors.items()
    }
    known = {k: model.card[k] for k in ("task", "model", "labels") if k in model.card}
    return {
        "model_spec": {"name": model.name, "signature_name": "", "version": model.version},
        "metadata": {"signature_def": {"signature_def": signatures}},
        "kzoo": known,
    }
