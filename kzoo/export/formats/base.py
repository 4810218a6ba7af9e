"""What every format has in common."""

import abc
import importlib.util
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from kzoo.build import portable
from kzoo.errors import RequestError
from kzoo.runtimes import NETWORK


class Subject:
    """What is exported.

    Attributes:
        model: The run's float32 network.
        card: The content of ``model.json``.
        signatures: Doors of a SavedModel, `kzoo.tasks.base.Signature` by name.
        numeric: Doors of runtimes without strings and images, by name.
        scratch: A folder for what lies between; it goes away after the export.
        shared: What one format leaves for another that is made of it.
    """

    def __init__(
        self,
        model,
        card: dict[str, Any],
        signatures: dict,
        numeric: dict,
        scratch: Path,
        calibrate: Callable[[str], dict[str, np.ndarray]],
    ):
        self.model, self.card, self.signatures, self.numeric = model, card, signatures, numeric
        self.scratch, self._calibrate = scratch, calibrate
        self.shared: dict[str, Any] = {}

    @cached_property
    def portable(self):
        """The network of Keras's own layers alone."""
        return portable(self.model)

    def function(self, door: str):
        """A door as a ``tf.function`` with its named inputs; outputs by name.

        An output that is called as an input is, such as a state, is given as ``<name>_next``: within one graph of ONNX
        or LiteRT names are used once.
        """
        import tensorflow as tf

        if door == NETWORK:
            inputs = tuple(tf.TensorSpec([None, *t.shape[1:]], t.dtype, name=t.name) for t in self.portable.inputs)
            function = self._network
        else:
            inputs, function = self.numeric[door].inputs, self.numeric[door].function
        taken = {spec.name for spec in inputs}

        def renamed(*tensors):
            return {f"{k}_next" if k in taken else k: v for k, v in function(*tensors).items()}

        # Autograph would rewrite Keras's Python code; the tasks' functions are TensorFlow operations already.
        return tf.function(renamed, input_signature=inputs, autograph=False)

    def _network(self, *tensors):
        model = self.portable
        inputs = dict(zip([t.name for t in model.inputs], tensors, strict=True))
        outputs = model(inputs if len(inputs) > 1 else tensors[0], training=False)
        if isinstance(outputs, dict):
            return outputs
        if isinstance(outputs, list | tuple):
            return {f"output_{place}": value for place, value in enumerate(outputs)}
        return {model.output_names[0]: outputs}

    def calibration(self, door: str) -> Iterator[dict[str, np.ndarray]]:
        """Inputs of a door from the training part of the recipe's data, one row at a time."""
        examples = self._calibrate(door)
        for row in range(min(len(v) for v in examples.values())):
            yield {name: value[row : row + 1] for name, value in examples.items()}


class Format(abc.ABC):
    """A kind of artefact.

    Attributes:
        artefact: Its file's or folder's name in an export.
        runtime: The runtime that it is verified in, a key of `kzoo.runtimes.RUNTIMES`.
        doors: Which doors it may hold: only the ``network``, those of the ``saved_model``, or the network and the
            ``numeric`` ones.
        precision: Of its arithmetic or weights; a key of `kzoo.comparison.RELATIVE_TOLERANCES`.
        extra: The extra of kzoo that brings its ``packages``.
        backends: Backends of Keras that can write it; empty for all.
    """

    artefact: str
    runtime: str
    doors: str = "network"
    precision: str = "float32"
    extra: str = ""
    packages: ClassVar[tuple[str, ...]] = ()
    backends: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Write the artefact.

        Returns:
            The reason for each door that it cannot hold.
        """

    def wanted(self, subject: Subject) -> list[str]:
        """The doors that it is asked to hold."""
        return {
            "network": [NETWORK],
            "saved_model": list(subject.signatures),
            "numeric": [NETWORK, *subject.numeric],
        }[self.doors]

    def opened_in(self, subject: Subject) -> str:
        """The runtime that this network's artefact is verified in."""
        return self.runtime

    def owns(self, file: str) -> bool:
        """Whether a file of an export, relative to its folder, is of this artefact."""
        return file.partition("/")[0] == self.artefact

    def check(self, name: str, backend: str) -> None:
        """Raise what keeps the format from being written here.

        Raises:
            RequestError: A package is missing, or Keras runs on another backend.
        """
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                raise RequestError(
                    f"the format {name} needs {package}, which is not installed: pip install 'kzoo[{self.extra}]'"
                )
        if self.backends and backend not in self.backends:
            raise RequestError(f"{name} needs KERAS_BACKEND={' or '.join(self.backends)}, not {backend}")
