"""From pictures to detections, in Python and inside exported graphs."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.data import decode
from kzoo.data.detection import augment
from kzoo.errors import RequestError
from kzoo.tasks import base
from kzoo.tasks.detection import drawing
from kzoo.tasks.detection.detections import Detections, finish, finish_plainly, in_pixels, of_batch

BATCH = 8
SCORE = 0.5  # least probability of what is shown, unless asked for otherwise


class Answers(base.Answers):
    """A trained detector's answers."""

    def __init__(self, card: dict[str, Any]):
        super().__init__(card)
        self.labels, self.how, self.detect = card["labels"], card["preprocessing"], card["detect"]
        self.size, self.channels = tuple(self.how["image_size"]), self.how["channels"]

    def answer(
        self,
        model,
        inputs: list,
        *,
        score: float = SCORE,
        overlap: float | None = None,
        limit: int | None = None,
        out: str | Path | None = None,
    ) -> list[dict[str, Any]]:
        """Find objects in pictures.

        Args:
            model: The network.
            inputs: Picture files' paths, encoded bytes, or uint8 arrays (height, width, channels).
            score: Least probability of a detection, in [0, 1).
            overlap: IoU above which the weaker of two detections of a class goes; the recipe's by default.
            limit: Most detections of a picture; the recipe's by default.
            out: A folder for each picture with its boxes drawn in, as a PNG; none are written by default.

        Returns:
            For each input its ``input``, ``height`` and ``width`` in pixels, ``objects``, a list of ``label``,
            ``score`` and ``box`` (x1, y1, x2, y2 in pixels), and with `out` the path of its ``picture``.

        Raises:
            RequestError: An input cannot be read, or an option is out of its range.
        """
        self._check_options(score, overlap, limit)
        how = {"score": score, "overlap": overlap or self.detect["overlap"], "limit": limit or self.detect["limit"]}

        @tf.function(reduce_retracing=True)
        def network(images):
            return finish(model(images, training=False), model.default_boxes, **how)

        answers, taken = [], set()
        for start in range(0, len(inputs), BATCH):
            chunk = inputs[start : start + BATCH]
            pictures = [self._read(given) for given in chunk]
            found = network(np.stack([self._shown(p) for p in pictures]))
            sizes = np.array([p.shape[:2] for p in pictures])
            for given, picture, detections in zip(chunk, pictures, self._placed(found, sizes), strict=True):
                answer = self._describe(given, picture, detections)
                if out is not None:
                    path = _free(Path(out), Path(answer["input"] or "picture").stem, taken)
                    answer["picture"] = str(
                        drawing.write(path, drawing.with_boxes(picture, answer["objects"], self.labels))
                    )
                answers.append(answer)
        return answers

    def table(self, answers: list[dict[str, Any]]) -> list[list[str]]:
        """A row for each object, with its picture, label, score and box; a picture without any has one too."""
        rows = []
        for a in answers:
            for o in a["objects"]:
                rows.append([a["input"], o["label"], f"{o['score']:.4f}", *(f"{v:.1f}" for v in o["box"])])
            if not a["objects"]:
                rows.append([a["input"], *[""] * 6])
        return [["input", "label", "score", "x1", "y1", "x2", "y2"], *rows]

    def network_inputs(self, samples: dict[str, np.ndarray]) -> np.ndarray:
        """Samples as the plain network takes them: resized, normalised float32."""
        return np.stack([self._shown(self._read(e)) for e in _encoded(samples)])

    def signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, base.Signature]:
        """``serving_default`` (the plain network), ``serve_images`` (uint8, one size) and ``serve_bytes`` (JPEG, PNG).

        The last two give ``boxes`` in pixels of the picture as it came, ``scores``, ``classes``, ``labels`` and
        ``count``; what is behind a picture's count is zero and empty.
        """
        labels = tf.constant([*self.labels, ""])

        def plain(image):
            return model(image, training=False)

        def detect(shown, sizes):
            found = finish(model(shown, training=False), model.default_boxes, **self.detect)
            windows = self._windows(sizes)
            boxes = tf.map_fn(
                lambda row: in_pixels(*row), (found["boxes"], sizes, windows), fn_output_signature=tf.float32
            )
            any_there = tf.range(self.detect["limit"])[None] < found["count"][:, None]
            names = tf.gather(labels, tf.where(any_there, found["classes"], len(self.labels)))
            boxes = tf.where(any_there[..., None], boxes, 0.0)
            return {**{k: found[k] for k in ("scores", "classes", "count")}, "boxes": boxes, "labels": names}

        def from_images(images):
            shown = self._normalize(decode.resize(images, self.size, self.how["fit"]))
            size = tf.cast(tf.shape(images)[1:3], tf.float32)
            shown = tf.ensure_shape(shown, [None, *self.size, self.channels])
            return detect(shown, tf.tile(size[None], [tf.shape(images)[0], 1]))

        def from_bytes(encoded):
            spec = (tf.TensorSpec((*self.size, self.channels), tf.uint8), tf.TensorSpec([2], tf.float32))
            shown, sizes = tf.map_fn(self._decode, encoded, fn_output_signature=spec)
            return detect(self._normalize(shown), sizes)

        encoded = _encoded(samples)
        first = self._read(encoded[0])
        alike = np.stack([p for p in map(self._read, encoded) if p.shape == first.shape])
        any_size = tf.TensorSpec([None, None, None, self.channels], tf.uint8, name="images")
        image = tf.TensorSpec([None, *self.size, self.channels], tf.float32, name="image")
        strings = np.empty(len(encoded), object)
        strings[:] = encoded
        return {
            "serving_default": base.Signature(plain, (image,), {"image": self.network_inputs(samples)}),
            "serve_images": base.Signature(from_images, (any_size,), {"images": alike}),
            "serve_bytes": base.Signature(
                from_bytes, (tf.TensorSpec([None], tf.string, name="encoded"),), {"encoded": strings}
            ),
        }

    def numeric_signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, base.Signature]:
        """``serve_pixels``: uint8 pictures of the network's size to ``boxes`` in their pixels and the rest of them."""

        def from_pixels(pixels):
            found = finish_plainly(model(self._normalize(pixels), training=False), model.default_boxes, **self.detect)
            return {**found, "boxes": found["boxes"] * tf.constant(self.size[::-1] * 2, tf.float32)}

        spec = tf.TensorSpec([None, *self.size, self.channels], tf.uint8, name="pixels")
        pictures = [decode.resize(self._read(e), self.size, self.how["fit"]).numpy() for e in _encoded(samples)]
        return {"serve_pixels": base.Signature(from_pixels, (spec,), {"pixels": np.stack(pictures)})}

    def _check_options(self, score, overlap, limit) -> None:
        if not 0 <= score < 1:
            raise RequestError(f"score is {score}, and takes a probability from 0 up to, but not, 1")
        if overlap is not None and not 0 < overlap <= 1:
            raise RequestError(f"overlap is {overlap}, and takes an IoU above 0 and up to 1")
        if limit is not None and limit < 1:
            raise RequestError(f"limit is {limit}, and takes at least 1")

    def _describe(self, given, picture: np.ndarray, detections: Detections) -> dict[str, Any]:
        rows = zip(detections.labels, detections.scores, detections.boxes, strict=True)
        objects = [
            {"label": self.labels[label], "score": float(score), "box": [round(float(v), 2) for v in box]}
            for label, score, box in rows
        ]
        name = str(given) if isinstance(given, str | Path) else None
        return {"input": name, "height": picture.shape[0], "width": picture.shape[1], "objects": objects}

    def _placed(self, found: dict, sizes: np.ndarray) -> list[Detections]:
        windows = [augment.whole(tuple(size), self.size, self.how["fit"]).window for size in sizes]
        return of_batch(found, sizes, np.array(windows))

    def _windows(self, sizes):
        """See `kzoo.data.detection.augment.whole`, as a graph: corners (batch, 4) of what the network sees."""
        extent = tf.reverse(sizes, [1])
        if self.how["fit"] == "stretch":
            return tf.concat([tf.zeros_like(extent), extent], 1)
        have = tf.unstack(tf.cast(sizes, tf.int64), axis=1)
        inner, before = (tf.cast(tf.stack(pair[::-1], 1), tf.float32) for pair in decode.inside(have, self.size))
        step = extent / inner
        low = -before * step
        return tf.concat([low, low + tf.constant(self.size[::-1], tf.float32) * step], 1)

    def _decode(self, encoded):
        pixels = decode.decode(encoded, self.channels)
        size = tf.cast(tf.shape(pixels)[:2], tf.float32)
        shown = decode.resize(pixels, self.size, self.how["fit"])
        return tf.ensure_shape(shown, (*self.size, self.channels)), size

    def _shown(self, picture: np.ndarray) -> np.ndarray:
        """A picture as the network takes it."""
        return self._normalize(decode.resize(picture, self.size, self.how["fit"])).numpy()

    def _normalize(self, pixels):
        mean, std = (tf.constant(self.how[k], tf.float32) for k in ("mean", "std"))
        return (tf.cast(pixels, tf.float32) - mean) * (1 / std)

    def _read(self, given) -> np.ndarray:
        """One input as uint8 of its own size."""
        if isinstance(given, np.ndarray):
            if given.dtype != np.uint8 or given.ndim != 3 or given.shape[-1] != self.channels:
                raise RequestError(
                    f"a picture array must be uint8 (height, width, {self.channels}), not {given.dtype} {given.shape}"
                )
            return given
        name = "an encoded picture" if isinstance(given, bytes) else str(given)
        try:
            encoded = given if isinstance(given, bytes) else Path(given).read_bytes()
            return decode.image(encoded, None, self.channels, "stretch")
        except OSError as error:
            raise RequestError(f"{name} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise RequestError(f"{name} is no readable picture: {str(error).partition(chr(10))[0]}") from None


def _encoded(samples: dict[str, np.ndarray]) -> list[bytes]:
    ends = np.cumsum(samples["lengths"])
    return [samples["bytes"][end - n : end].tobytes() for n, end in zip(samples["lengths"], ends, strict=True)]


def _free(folder: Path, stem: str, taken: set[str]) -> Path:
    """A file name that none of this call's pictures has; pictures of two folders may share theirs."""
    names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
    name = next(n for n in names if n not in taken)
    taken.add(name)
    return folder / f"{name}.png"
