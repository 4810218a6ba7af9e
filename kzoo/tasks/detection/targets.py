"""From objects to what each default box should answer: SSD's matching (Liu et al. 2016, section 2.2), in graph."""

import numpy as np
import tensorflow as tf

from kzoo import boxes as rectangles
from kzoo.data.detection.truth import ANY

# Class targets: the background, and what counts for nothing; an object's is its label plus one.
BACKGROUND, IGNORED = 0, -1
# Share of a default box inside an ignored one from which on it is no background.
_COVERED = 0.5


class Encoder:
    """Assigns the objects of a batch to default boxes."""

    def __init__(self, default_boxes: np.ndarray, overlap: float):
        """Describe the assignment.

        Args:
            default_boxes: float32 (count, 4), centres in shares of the image.
            overlap: Least IoU at which a default box stands for an object.
        """
        self.centres = default_boxes
        self.corners = rectangles.to_corners(default_boxes)
        self.overlap = overlap

    def __call__(self, boxes, labels) -> dict:
        """Encode a batch.

        A default box stands for the object that it overlaps most, if it does so enough; then each object's best default
        box stands for it in any case, of several objects with the same best the last. What is mostly inside an ignored
        object, or overlaps it enough, is ignored unless it stands for an object.

        Args:
            boxes: float32 (batch, objects, 4), corners in shares of the image.
            labels: int32 (batch, objects), a class, `ANY` for ignored, and for none what `pipeline.PADDING` is.

        Returns:
            ``boxes``, float32 (batch, count, 5): offsets, and 1 where they count; ``classes``, int32 (batch, count).
        """
        common, covered = self._overlaps(boxes)
        real = labels >= 0
        usable = tf.where(real[..., None], common, -1.0)
        best = tf.argmax(usable, 1, output_type=tf.int32)
        positive = tf.reduce_max(usable, 1) >= self.overlap
        # The number of an object, from 1, at its best default box; the last of several objects wins.
        favourite = tf.one_hot(tf.argmax(usable, 2), len(self.centres), dtype=tf.int32)
        numbers = tf.range(1, tf.shape(labels)[1] + 1)[None, :, None] * tf.cast(real, tf.int32)[..., None]
        forced = tf.reduce_max(favourite * numbers, 1)
        best = tf.where(forced > 0, forced - 1, best)
        positive |= forced > 0
        chosen = tf.gather(boxes, best, batch_dims=1)
        ignored = (labels == ANY)[..., None] & ((common >= self.overlap) | (covered >= _COVERED))
        classes = tf.where(positive, tf.gather(labels, best, batch_dims=1) + 1, BACKGROUND)
        classes = tf.where(~positive & tf.reduce_any(ignored, 1), IGNORED, classes)
        offsets = tf.where(positive[..., None], self._offsets(chosen), 0.0)
        return {"boxes": tf.concat([offsets, tf.cast(positive, tf.float32)[..., None]], -1), "classes": classes}

    def _overlaps(self, boxes):
        """IoU, and the share of each default box inside each object, both (batch, objects, count)."""
        # Coordinate by coordinate: TensorFlow is slow where it spreads an axis of two.
        left, top, right, bottom = (tf.constant(np.ascontiguousarray(c)) for c in self.corners.T)
        x1, y1, x2, y2 = (c[..., None] for c in tf.unstack(boxes, axis=-1))
        width = tf.maximum(tf.minimum(x2, right) - tf.maximum(x1, left), 0.0)
        common = width * tf.maximum(tf.minimum(y2, bottom) - tf.maximum(y1, top), 0.0)
        area = tf.maximum(x2 - x1, 0.0) * tf.maximum(y2 - y1, 0.0)
        own = tf.constant(rectangles.area(self.corners))
        return common / tf.maximum(area + own - common, 1e-12), common / own

    def _offsets(self, corners):
        """See `kzoo.boxes.encode`; what stands for no object may be infinite and is not used."""
        ours = tf.constant(self.centres)
        middle, size = (corners[..., :2] + corners[..., 2:]) / 2, corners[..., 2:] - corners[..., :2]
        shift = (middle - ours[:, :2]) / ours[:, 2:]
        growth = tf.math.log(tf.maximum(size, 1e-6) / ours[:, 2:])
        return tf.concat([shift, growth], -1) / tf.constant(rectangles.VARIANCES)
