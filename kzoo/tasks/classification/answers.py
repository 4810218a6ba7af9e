"""From raw images to labels and probabilities, in Python and inside exported graphs."""

import itertools
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kzoo.data import decode
from kzoo.errors import RequestError, nearest
from kzoo.tasks import base
from kzoo.tasks.classification import gradcam
from kzoo.tasks.pictures import PictureAnswers

BATCH = 64


class Answers(PictureAnswers):
    """A trained classifier's answers."""

    noun = "image"

    def answer(self, model, inputs: list, *, top: int = 3) -> list[dict[str, Any]]:
        """Classify images.

        Args:
            model: The network.
            inputs: Image files' paths, encoded bytes, or uint8 arrays (height, width, channels).
            top: How many labels to give for each image.

        Returns:
            For each input its ``input``, ``label``, ``probability``, and ``top``: pairs of label and probability.
        """
        if top < 1:
            raise RequestError(f"top is {top}, and takes at least 1")
        answers = []
        for start in range(0, len(inputs), BATCH):
            chunk = inputs[start : start + BATCH]
            probabilities = self._probabilities(model(self.normalize(np.stack([self._shown(i) for i in chunk]))))
            for given, row in zip(chunk, keras.ops.convert_to_numpy(probabilities), strict=True):
                order = np.argsort(-row)[:top]
                best = [{"label": self.labels[i], "probability": float(row[i])} for i in order]
                name = str(given) if isinstance(given, str | Path) else None
                answers.append({"input": name, **best[0], "top": best})
        return answers

    def table(self, answers: list[dict[str, Any]]) -> list[list[str]]:
        """Each input with its best labels and their probabilities."""
        rows = [
            [a["input"], *(cell for b in a["top"] for cell in (b["label"], f"{b['probability']:.4f}"))] for a in answers
        ]
        best = range(1, len(answers[0]["top"]) + 1)
        return [["input", *(f"{kind}{number}" for number in best for kind in ("label", "probability"))], *rows]

    def explain(
        self, model, inputs: list, folder: Path, *, label: str | None = None, layer: str | None = None
    ) -> list[dict[str, Any]]:
        """Classify images and draw where the network looks for a class (Grad-CAM).

        Args:
            model: The network.
            inputs: As for `answer`.
            folder: Where the PNGs go, ``<input's name>-<label>.png``.
            label: The class to explain; the most probable one by default.
            layer: The layer whose feature maps are weighed; the last one by default.

        Returns:
            For each input its ``input``, ``label``, ``probability`` and ``picture``.
        """
        if label is not None and label not in self.labels:
            raise RequestError(f"there is no label {label!r}{nearest(label, self.labels)}")
        wanted = None if label is None else self.labels.index(label)
        maps, answers, taken = gradcam.feature_layer(model, layer), [], set()
        for start in range(0, len(inputs), BATCH):
            chunk = inputs[start : start + BATCH]
            pixels = np.stack([self._shown(given) for given in chunk])
            heats, logits = gradcam.heat_maps(model, maps, self.normalize(pixels), wanted)
            probabilities = keras.ops.convert_to_numpy(self._probabilities(logits))
            for given, image, heat, row in zip(chunk, pixels, heats, probabilities, strict=True):
                chosen = int(row.argmax()) if wanted is None else wanted
                name = str(given) if isinstance(given, str | Path) else None
                path = _free(folder, f"{Path(name).stem if name else 'image'}-{self.labels[chosen]}", taken)
                gradcam.write(path, gradcam.overlay(image, heat))
                answer = {"input": name, "label": self.labels[chosen], "probability": float(row[chosen])}
                answers.append({**answer, "picture": str(path)})
        return answers

    def blank(self) -> dict[str, np.ndarray]:
        """A black image."""
        return {"images": np.zeros((1, *self.size, self.channels), np.uint8)}

    def network_inputs(self, samples: dict[str, np.ndarray]) -> np.ndarray:
        """Samples as the plain network takes them: normalised float32."""
        return self.normalize(samples["images"]).numpy()

    def signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, base.Signature]:
        """``serving_default`` (the plain network), ``serve_images`` (uint8) and ``serve_bytes`` (JPEG or PNG)."""
        shape = (*self.size, self.channels)
        labels = tf.constant(self.labels)

        def plain(image):
            return {"logits": model(image, training=False)}

        def finished(pixels):
            probabilities = self._probabilities(model(self.normalize(pixels), training=False))
            return {
                "label": tf.gather(labels, tf.argmax(probabilities, -1)),
                "probability": tf.reduce_max(probabilities, -1),
                "probabilities": probabilities,
            }

        def from_images(images):
            return finished(tf.ensure_shape(self.resize(images), [None, *shape]))

        def from_bytes(encoded):
            spec = tf.TensorSpec(shape, tf.uint8)
            return finished(tf.map_fn(self._decode, encoded, fn_output_signature=spec))

        any_size = tf.TensorSpec([None, None, None, self.channels], tf.uint8, name="images")
        images = samples["images"]
        encoded = np.array([tf.io.encode_png(i).numpy() for i in images], object)
        return {
            "serving_default": base.Signature(
                plain,
                (tf.TensorSpec([None, *shape], tf.float32, name="image"),),
                {"image": self.network_inputs(samples)},
            ),
            "serve_images": base.Signature(from_images, (any_size,), {"images": images}),
            "serve_bytes": base.Signature(
                from_bytes, (tf.TensorSpec([None], tf.string, name="encoded"),), {"encoded": encoded}
            ),
        }

    def numeric_signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, base.Signature]:
        """``serve_pixels``: uint8 images of the network's size to their class's place among the labels."""

        def from_pixels(pixels):
            probabilities = self._probabilities(model(self.normalize(pixels), training=False))
            return {
                "class": tf.argmax(probabilities, -1, output_type=tf.int32),
                "probability": tf.reduce_max(probabilities, -1),
                "probabilities": probabilities,
            }

        spec = tf.TensorSpec([None, *self.size, self.channels], tf.uint8, name="pixels")
        return {"serve_pixels": base.Signature(from_pixels, (spec,), {"pixels": samples["images"]})}

    def _decode(self, encoded):
        return tf.ensure_shape(self.resize(decode.decode(encoded, self.channels)), (*self.size, self.channels))

    def _shown(self, given) -> np.ndarray:
        """One input as uint8 of the network's size."""
        return self.resize(self.read(given)).numpy()

    @staticmethod
    def _probabilities(logits):
        return keras.ops.softmax(keras.ops.cast(logits, "float32"))


def _free(folder: Path, stem: str, taken: set[str]) -> Path:
    """A file name that none of this call's pictures has; images of two folders may share theirs."""
    stem = "".join(c if c.isalnum() or c in "-_." else "_" for c in stem)
    others = (f"{stem}-{i}" for i in itertools.count(2))
    name = next(n for n in itertools.chain([stem], others) if n not in taken)
    taken.add(name)
    return folder / f"{name}.png"
