"""TensorFlow's SavedModel."""

from pathlib import Path
from typing import ClassVar

from kzoo.export.formats.base import Format, Subject
from kzoo.files import write_json, write_text


class SavedModel(Format):
    """Signatures, and the variables that they use."""

    artefact, runtime, doors = "saved_model", "tensorflow", "saved_model"
    backends: ClassVar = ("tensorflow",)

    def save(self, subject: Subject, path: Path) -> dict[str, str]:
        """Write every door; what else inference needs goes to ``assets.extra``, which TensorFlow leaves alone."""
        write_signatures(subject.signatures, path)
        extra = path / "assets.extra"
        extra.mkdir()
        write_json(extra / "model.json", subject.card)
        if subject.card.get("labels"):
            write_text(extra / "labels.txt", "".join(f"{label}\n" for label in subject.card["labels"]))
        return {}


def write_signatures(signatures: dict, path: Path) -> None:
    """Write a SavedModel of `kzoo.tasks.base.Signature` by name.

    Keras's own exporter tracks the whole model beside them and stores every weight twice (keras#23553).
    """
    import tensorflow as tf

    # Autograph would rewrite Keras's Python code; the tasks' functions are TensorFlow operations already.
    write_functions(
        {n: tf.function(s.function, input_signature=s.inputs, autograph=False) for n, s in signatures.items()}, path
    )


def write_functions(functions: dict, path: Path) -> None:
    """Write a SavedModel of ``tf.function`` by name, each with an input signature."""
    import tensorflow as tf

    doors = {name: f.get_concrete_function() for name, f in functions.items()}
    module = tf.Module(name="kzoo")
    module.weights = list({id(v): v for door in doors.values() for v in door.variables}.values())
    tf.saved_model.save(module, str(path), signatures=doors)
