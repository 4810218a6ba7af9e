"""From pictures to detections, in Python and inside exported graphs."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.data import decode
from kzoo.data.detection import augment, videos
from kzoo.errors import RequestError, first_line
from kzoo.tasks import base
from kzoo.tasks.detection import writing
from kzoo.tasks.detection.detections import Detections, finish, finish_plainly, in_pixels, of_batch
from kzoo.tasks.detection.folding import folded

BATCH = 8
SCORE = 0.5  # least probability of what is shown, unless asked for otherwise


class Answers(base.Answers):
    """A trained detector's answers."""

    def __init__(self, card: dict[str, Any]):
        super().__init__(card)
        self.labels, self.how, self.detect = card["labels"], card["preprocessing"], card["detect"]
        self.size, self.channels = tuple(self.how["image_size"]), self.how["channels"]
        self._traced = None

    def answer(
        self,
        model,
        inputs: list,
        *,
        score: float = SCORE,
        overlap: float | None = None,
        limit: int | None = None,
        out: str | Path | None = None,
        formats: str | Sequence[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Find objects in pictures and videos.

        Args:
            model: The network.
            inputs: Paths of picture and video files, encoded pictures, or uint8 arrays (height, width, channels).
            score: Least probability of a detection, in [0, 1).
            overlap: IoU above which the weaker of two detections of a class goes; the recipe's by default.
            limit: Most detections of a picture; the recipe's by default.
            out: A folder to write to; nothing is written by default.
            formats: What is written there, see `kzoo.tasks.detection.writing.Writer`: ``pictures`` (the default),
                ``coco``, ``kitti``; also as one text with commas.

        Returns:
            For each picture and each frame its ``input``, of a video its ``frame`` counted from 0, ``height`` and
            ``width`` in pixels, ``objects``, a list of ``label``, ``score`` and ``box`` (x1, y1, x2, y2 in pixels), and
            with `out` the path of its ``picture``, of a frame that of the video.

        Raises:
            RequestError: An input cannot be read, or an option is out of its range.
        """
        self._check_options(score, overlap, limit)
        if formats is not None and out is None:
            raise RequestError("formats says what is written, and takes out, the folder to write to")
        formats = writing.chosen(formats or "pictures")
        network = self._network(model, score, overlap or self.detect["overlap"], limit or self.detect["limit"])
        answers, pictures = [], self._pictures(inputs)
        with writing.Writer(Path(out), formats, self.labels) if out is not None else contextlib.nullcontext() as writer:
            while chunk := list(itertools.islice(pictures, BATCH)):
                found = network(np.stack([self._shown(pixels) for _, pixels in chunk]))
                sizes = np.array([pixels.shape[:2] for _, pixels in chunk])
                for (named, pixels), detections in zip(chunk, self._placed(found, sizes), strict=True):
                    answers.append(self._describe(named, pixels, detections))
                    if writer is not None:
                        writer.add(answers[-1], pixels)
        return answers

    def _network(self, model, score: float, overlap: float, limit: int):
        """From images to detections as a graph, which is made once for a model and its options."""
        if self._traced is None or self._traced[0] is not model or self._traced[1] != (score, overlap, limit):
            network = folded(model, self.card["model"], self.card["arguments"])

            @tf.function(reduce_retracing=True)
            def graph(images):
                outputs = network(images, training=False)
                return finish(outputs, network.default_boxes, score=score, overlap=overlap, limit=limit)

            self._traced = (model, (score, overlap, limit), graph)
        return self._traced[2]

    def table(self, answers: list[dict[str, Any]]) -> list[list[str]]:
        """A row for each object, with its picture, label, score and box; a picture without any has one too."""
        rows = []
        for a in answers:
            name = f"{a['input']}#{a['frame']}" if "frame" in a else a["input"]
            for o in a["objects"]:
                rows.append([name, o["label"], f"{o['score']:.4f}", *(f"{v:.1f}" for v in o["box"])])
            if not a["objects"]:
                rows.append([name, *[""] * 6])
        return [["input", "label", "score", "x1", "y1", "x2", "y2"], *rows]

    def blank(self) -> dict[str, np.ndarray]:
        """A black picture, encoded."""
        encoded = tf.io.encode_png(np.zeros((*self.size, self.channels), np.uint8)).numpy()
        return {"bytes": np.frombuffer(encoded, np.uint8), "lengths": np.array([len(encoded)])}

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

    def _pictures(self, inputs: list) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
        """Each picture and frame, uint8 of its own size, and what it is called."""
        for given in inputs:
            name = str(given) if isinstance(given, str | Path) else None
            if not videos.is_video(given):
                yield {"input": name}, self._read(given)
                continue
            for number, frame in enumerate(videos.frames(given)):
                pixels = frame if self.channels == 3 else decode.grey(frame).numpy()
                yield {"input": name, "frame": number}, pixels

    def _describe(self, named: dict[str, Any], picture: np.ndarray, detections: Detections) -> dict[str, Any]:
        rows = zip(detections.labels, detections.scores, detections.boxes, strict=True)
        objects = [
            {"label": self.labels[label], "score": float(score), "box": [round(float(v), 2) for v in box]}
            for label, score, box in rows
        ]
        return {**named, "height": picture.shape[0], "width": picture.shape[1], "objects": objects}

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
            raise RequestError(f"{name} is no readable picture: {first_line(error)}") from None


def _encoded(samples: dict[str, np.ndarray]) -> list[bytes]:
    ends = np.cumsum(samples["lengths"])
    return [samples["bytes"][end - n : end].tobytes() for n, end in zip(samples["lengths"], ends, strict=True)]
