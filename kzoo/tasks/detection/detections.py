"""From a network's outputs to detections: decoding and class-wise non-maximum suppression, as TensorFlow graph."""

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from kzoo import boxes as rectangles


@dataclass(frozen=True)
class Detections:
    """What was found in one picture, the most probable first.

    Attributes:
        boxes: float32 (found, 4), corners in pixels of the picture.
        scores: float32 (found,), probabilities.
        labels: int64 (found,), places among the classes.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, places) -> "Detections":
        """The detections at these places."""
        return Detections(self.boxes[places], self.scores[places], self.labels[places])


def finish(outputs: dict, default_boxes: np.ndarray, *, score, overlap, limit: int) -> dict:
    """Decode a batch and suppress, class by class, what overlaps a more probable detection.

    Args:
        outputs: ``boxes`` and ``classes`` of a detector.
        default_boxes: float32 (count, 4), centres in shares of the image.
        score: Least probability.
        overlap: IoU above which the weaker one goes.
        limit: Most detections of a picture.

    Returns:
        ``boxes``, float32 (batch, limit, 4), corners in shares of the network's input, cut to it; ``scores``, float32
        (batch, limit); ``classes``, int32 (batch, limit); and ``count``, int32 (batch,), how many of them are any.
    """
    corners, probabilities = _decoded(outputs, default_boxes)
    # TensorFlow's order is y, x.
    found = tf.image.combined_non_max_suppression(
        tf.gather(corners, [1, 0, 3, 2], axis=-1)[:, :, None],
        probabilities,
        max_output_size_per_class=limit,
        max_total_size=limit,
        iou_threshold=overlap,
        score_threshold=score,
    )
    return {
        "boxes": tf.gather(found.nmsed_boxes, [1, 0, 3, 2], axis=-1),
        "scores": found.nmsed_scores,
        "classes": tf.cast(found.nmsed_classes, tf.int32),
        "count": found.valid_detections,
    }


def finish_plainly(outputs: dict, default_boxes: np.ndarray, *, score, overlap, limit: int) -> dict:
    """The same as `finish`, in operators that ONNX and LiteRT have.

    Both can suppress the boxes of one class of one picture, so a loop goes over all classes of all pictures; what is
    left of a picture's classes is then ordered together.
    """
    corners, probabilities = _decoded(outputs, default_boxes)
    number, classes = default_boxes.shape[0], probabilities.shape[-1]
    each = tf.reshape(tf.transpose(probabilities, [0, 2, 1]), [-1, number])
    rows = tf.range(tf.shape(each)[0])

    def body(row, places, scores):
        found, count = tf.raw_ops.NonMaxSuppressionV4(
            boxes=corners[row // classes],  # overlap is the same whichever axis comes first
            scores=each[row],
            max_output_size=limit,
            iou_threshold=overlap,
            score_threshold=score,
            pad_to_max_output_size=True,
        )
        found = tf.reshape(found, [limit])
        kept = tf.where(tf.range(limit) < count, tf.gather(each[row], found), 0.0)
        here = tf.equal(rows, row)[:, None]
        return row + 1, tf.where(here, found[None], places), tf.where(here, kept[None], scores)

    empty = tf.zeros([tf.shape(each)[0], limit])
    shapes = (tf.TensorShape([]), tf.TensorShape([None, limit]), tf.TensorShape([None, limit]))
    start = (0, tf.cast(empty, tf.int32), empty)
    _, places, scores = tf.while_loop(lambda row, *_: row < tf.shape(each)[0], body, start, shapes)
    scores, order = tf.math.top_k(tf.reshape(scores, [-1, classes * limit]), limit)
    places = tf.gather(tf.reshape(places, [-1, classes * limit]), order, batch_dims=1)
    any_there = scores > 0
    boxes = tf.where(any_there[..., None], tf.gather(corners, places, batch_dims=1), 0.0)
    labels = tf.where(any_there, order // limit, 0)
    return {
        "boxes": boxes,
        "scores": scores,
        "classes": labels,
        "count": tf.reduce_sum(tf.cast(any_there, tf.int32), -1),
    }


def _decoded(outputs: dict, default_boxes: np.ndarray):
    """Corners (batch, count, 4), x before y, in shares of the input and cut to it, and probabilities of the classes."""
    ours = tf.convert_to_tensor(default_boxes)
    scaled = tf.cast(outputs["boxes"], tf.float32) * tf.constant(rectangles.VARIANCES)
    middle = scaled[..., :2] * ours[:, 2:] + ours[:, :2]
    half = tf.exp(tf.minimum(scaled[..., 2:], rectangles.LARGEST_LOG_SIZE)) * ours[:, 2:] / 2
    corners = tf.clip_by_value(tf.concat([middle - half, middle + half], -1), 0.0, 1.0)
    return corners, tf.nn.softmax(tf.cast(outputs["classes"], tf.float32))[..., 1:]


def in_pixels(boxes, size, window):
    """Boxes in shares of the network's input as pixels of the picture, cut to it; works inside a graph.

    Args:
        boxes: float32 (..., 4), corners.
        size: Height and width of the picture, float32 (2,).
        window: What of the picture's plane the network saw, corners in pixels, float32 (4,).
    """
    low, extent = window[:2], window[2:] - window[:2]
    width_height = tf.reverse(size, [0])
    corners = boxes * tf.tile(extent, [2]) + tf.tile(low, [2])
    return tf.clip_by_value(corners, 0.0, tf.tile(width_height, [2]))


def of_batch(found: dict, sizes: np.ndarray, windows: np.ndarray) -> list[Detections]:
    """Detections of each picture of a batch.

    Args:
        found: What `finish` returned.
        sizes: (batch, 2), heights and widths of the pictures.
        windows: (batch, 4), what the network saw of each.
    """
    arrays = {name: np.asarray(value) for name, value in found.items()}
    result = []
    for row, (size, window) in enumerate(zip(sizes, windows, strict=True)):
        count = int(arrays["count"][row])
        boxes = arrays["boxes"][row, :count]
        placed = in_pixels(boxes, tf.constant(size, tf.float32), tf.constant(window, tf.float32)).numpy()
        labels = arrays["classes"][row, :count].astype(np.int64)
        result.append(Detections(placed, arrays["scores"][row, :count], labels))
    return result
