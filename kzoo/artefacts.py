"""Reads artefacts: their card, and their network in the place of the Keras model that it came from.

So the same code answers with an artefact as with a run.
"""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import runtimes, vetting
from kzoo.build import is_quantised, load, quantised, skeleton
from kzoo.cards import check_card
from kzoo.errors import RequestError, first_line
from kzoo.files import read_json

# Suffix of a file -> packages of its runtime, and the extra of kzoo that brings them.
_RUNTIMES = {".onnx": (("onnxruntime", "onnx"), "onnx"), ".tflite": (("ai_edge_litert",), "litert")}
_OWN = (".keras", ".h5")


class Network:
    """A network whose outputs come from an artefact's runtime.

    It is called as a Keras model is, with tensors or arrays, inside graphs too. What else is asked of it (inputs,
    outputs, default boxes) is what a model of the same builder has.
    """

    def __init__(self, artefact: Path, model, card: dict[str, Any] | None = None):
        """Open an artefact.

        Args:
            artefact: A file or folder that `kzoo.export` wrote.
            model: A model of the same builder and arguments, whatever its weights.
            card: The content of its ``model.json``.

        Raises:
            RequestError: It is no artefact, its runtime is missing, or it does not fit the model.
        """
        self.artefact, self.model = artefact, model
        self.layers = [self]  # for those who look into networks: one layer, of an unknown kind
        self._names = [t.name for t in model.inputs]
        self._doors = _doors(artefact, card)
        self._run = _by_rows(self._network())

    def __getattr__(self, name: str):
        if name in ("name", "inputs", "input", "outputs", "output", "output_names", "default_boxes"):
            return getattr(self.__dict__["model"], name)
        raise AttributeError(f"an artefact has no {name}")

    def __call__(self, inputs, training: bool = False):
        """Outputs in the form of the model's.

        Args:
            inputs: A tensor or array, or several by name.
            training: Must be False: an artefact is no network to train.
        """
        import tensorflow as tf

        given = inputs if isinstance(inputs, dict) else {self._names[0]: inputs}
        kinds = {t.name: t.dtype for t in self.model.inputs}
        tensors = [tf.cast(given[name], kinds[name]) for name in self._names]
        outputs = self.model.output
        named = outputs if isinstance(outputs, dict) else {"output": self.model.outputs[0]}

        def compute(*arrays):
            found = self._run(dict(zip(self._names, arrays, strict=True)))
            return [np.asarray(found[name], dtype=output.dtype) for name, output in named.items()]

        found = tf.numpy_function(compute, tensors, [tf.as_dtype(o.dtype) for o in named.values()], stateful=False)
        found = tf.nest.flatten(found)  # of a single one NumPy's function makes no list
        for value, output in zip(found, named.values(), strict=True):
            value.set_shape([None, *output.shape[1:]])
        return dict(zip(named, found, strict=True)) if isinstance(outputs, dict) else found[0]

    def _network(self) -> Callable:
        """From inputs by name to outputs by name."""
        for door in (runtimes.NETWORK, "serving_default"):
            if door in self._doors and not (door == "serving_default" and len(self._names) > 1):
                run, name = self._doors[door], self._names[0]
                if len(self.model.outputs) > 1 or door == runtimes.NETWORK:
                    return run
                return lambda inputs: {"output": next(iter(run({name: inputs[name]}).values()))}
        if "step" in self._doors:
            return self._by_steps
        raise RequestError(f"{self.artefact} holds no network that kzoo knows: its doors are {sorted(self._doors)}")

    def _by_steps(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """A language model of which the artefact holds a single step, over several tokens."""
        state = {name: value for name, value in inputs.items() if name != "tokens"}
        logits = []
        for token in inputs["tokens"].T:
            state = dict(self._doors["step"]({"token": token, **state}))
            logits.append(state.pop("logits"))
        return {"logits": np.stack(logits, 1), **state}


def _by_rows(door: Callable) -> Callable:
    """A door for any number of rows, of one that takes a single one, as compilers for small devices make them."""
    shapes = getattr(door, "inputs", {}).values()
    if not shapes or any(not shape or shape[0] != 1 for shape in shapes):
        return door

    def rows(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        count = len(next(iter(inputs.values())))
        # Of no rows there would be no outputs either.
        answers = [door({k: v[row : row + 1] for k, v in inputs.items()}) for row in range(count)]
        return {name: np.concatenate([a[name] for a in answers]) for name in answers[0]}

    return rows


def is_artefact(path: str | Path) -> bool:
    """Whether a path is an artefact's and not a run's."""
    path = Path(path)
    return path.suffix in (*_RUNTIMES, *_OWN) or (path / "saved_model.pb").is_file() or is_openvino(path)


def is_openvino(path: Path) -> bool:
    """Whether a path is a folder of OpenVINO's that `kzoo.export` wrote."""
    return (path / f"{runtimes.NETWORK}.xml").is_file()


def open_artefact(path: str | Path):
    """An artefact's network, and its card (``model.json``).

    Args:
        path: A ``.keras``, ``.h5``, ``.weights.h5``, ``.onnx`` or ``.tflite`` file or a folder of a SavedModel
            or of OpenVINO's that `kzoo.export` wrote.

    Returns:
        A Keras model or a `Network`, and the card.

    Raises:
        RequestError: There is no such file, it is damaged or no artefact of the zoo, or its runtime is missing.
    """
    path, known = Path(path), card(path)
    if path.suffix in _OWN and not is_quantised(path):
        return load(path), known
    return Network(path, skeleton(known, path), known), known


def card(path: str | Path) -> dict[str, Any]:
    """What inference needs beside an artefact's network; see `open_artefact`."""
    path = Path(path)
    if not path.exists():
        raise RequestError(f"there is no file {path}")
    found = read_card(path)
    if not found:
        raise RequestError(f"{path} has no model.json in it or beside it, which says what network it is")
    return check_card(found, f"the model.json of {path}")


def read_card(path: Path) -> Any:
    """The card as it stands, inside where the format has a place for it, else beside; None where there is none."""
    if is_openvino(path):
        return read_json(path / "model.json")
    if path.is_dir():
        return read_json(path / "assets.extra" / "model.json") or read_json(path.parent / "model.json")
    if path.suffix in _RUNTIMES:
        text = _metadata(path).get("model.json", "null")
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise RequestError(f"{path} holds a model.json that is no JSON") from None
    return read_json(path.parent / "model.json")


def _doors(path: Path, known: dict[str, Any]) -> dict[str, Callable]:
    if path.suffix in _RUNTIMES:
        return _opened(path)
    if path.suffix in _OWN:
        model = quantised(known, path)
        return {runtimes.NETWORK: lambda inputs: runtimes.call_network(model, inputs)}
    return _openvino(path) if is_openvino(path) else _saved_model(path)


def _openvino(path: Path) -> dict[str, Callable]:
    _check_packages(path, ("openvino",), "openvino")
    vetting.check(path)
    try:
        return runtimes.open_openvino(path)
    except RuntimeError as error:
        raise RequestError(f"{path} cannot be opened by openvino: {first_line(error)}") from None


def _check_packages(path: Path, packages: tuple[str, ...], extra: str) -> None:
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise RequestError(f"{path} needs {package}, which is not installed: pip install 'kzoo[{extra}]'")


def _opened(path: Path) -> dict[str, Callable]:
    """Doors of a file, by its runtime."""
    packages = _checked(path)
    open_file = runtimes.open_onnx if path.suffix == ".onnx" else runtimes.open_litert
    try:
        return open_file(path)
    except Exception as error:  # the runtimes have a dozen kinds
        raise RequestError(f"{path} cannot be opened by {packages[0]}: {first_line(error)}") from None


def _metadata(path: Path) -> dict[str, str]:
    """What a file says beside its graph; no runtime has to make it ready for that."""
    _checked(path)
    try:
        if path.suffix == ".tflite":
            return runtimes.litert_metadata(path)
        import onnx

        return {p.key: p.value for p in onnx.load(str(path), load_external_data=False).metadata_props}
    except Exception as error:  # of a damaged buffer, several kinds
        raise RequestError(f"{path} cannot be opened: its metadata are damaged ({first_line(error)})") from None


def _checked(path: Path) -> tuple[str, ...]:
    """The packages of a file's runtime, once they and the file were looked at."""
    packages, extra = _RUNTIMES[path.suffix]
    _check_packages(path, packages, extra)
    vetting.check(path)
    return packages


def load_saved_model(path: Path):
    """What TensorFlow loads from a SavedModel's folder, once its operations were looked at.

    Raises:
        RequestError: It could do more than compute (`kzoo.vetting.check_saved_model`), is damaged, or was changed since
            it was verified.
    """
    import tensorflow as tf

    vetting.check_saved_model(path)
    vetting.check_unchanged(path)
    try:
        return tf.saved_model.load(str(path))
    except Exception as error:  # what a damaged one raises is of many kinds
        raise RequestError(f"{path} cannot be loaded by tensorflow: {first_line(error)}") from None


def _saved_model(path: Path) -> dict[str, Callable]:
    import tensorflow as tf

    loaded = load_saved_model(path)

    def door(signature):
        kinds = {name: spec.dtype for name, spec in signature.structured_input_signature[1].items()}
        # A signature lives as long as what was loaded, which this closure therefore keeps.
        return lambda inputs, _kept=loaded: {
            k: v.numpy() for k, v in signature(**{n: tf.constant(inputs[n], kinds[n]) for n in kinds}).items()
        }

    return {name: door(signature) for name, signature in loaded.signatures.items()}
