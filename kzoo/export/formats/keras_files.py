"""Keras's own files.

Keras opens them by itself where all layers are its own. A network that has layers of the zoo, which do what none of
Keras's does, is opened by the zoo, which rebuilds it and reads the weights; they are verified so.
"""

from pathlib import Path

from kzoo.export.formats.base import Format, Subject


class _Whole(Format):
    """A file of configuration and weights."""

    def opened_in(self, subject: Subject) -> str:
        """Plain Keras, or the zoo where the network has a layer of the zoo."""
        own = any(type(layer).__module__.partition(".")[0] == "kzoo" for layer in subject.portable.layers)
        return "kzoo" if own else self.runtime


class H5(_Whole):
    """A whole model as legacy HDF5.

    With its optimiser such a file could be loaded but not trained further, so it is written without.
    """

    artefact, runtime = "model.h5", "keras"

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Write a network of Keras's own layers."""
        subject.portable.save(path, include_optimizer=False)
        return {}


class Keras(_Whole):
    """A whole model as a zip of configuration and weights."""

    artefact, runtime = "model.keras", "keras"

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Write a network of Keras's own layers."""
        subject.portable.save(path)
        return {}


class WeightsH5(Format):
    """Weights alone."""

    artefact, runtime = "model.weights.h5", "kzoo"

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Write the weights."""
        subject.model.save_weights(path)
        return {}


class KerasInt8(_Whole):
    """A Keras model whose dense layers and embeddings hold 8-bit weights, a scale for each output channel."""

    artefact, runtime, precision = "model.int8.keras", "keras", "int8"

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Quantise a copy."""
        import keras

        model = subject.portable
        twin = keras.models.clone_model(model)
        twin.set_weights(model.get_weights())
        twin.quantize("int8")
        twin.save(path)
        return {}
