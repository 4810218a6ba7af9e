"""SSD's loss in two parts, one for each output, both in float32 and both over the number of positives of the batch."""

import keras
from keras import ops

from kzoo.tasks.detection.settings import Train


def losses(settings: Train) -> dict[str, keras.losses.Loss]:
    """The losses of the outputs ``boxes`` and ``classes`` (Liu et al. 2016, eq. 1)."""
    if settings.class_loss == "focal":
        classes = FocalLoss(settings.focal_gamma, settings.focal_alpha)
    else:
        classes = MinedLoss(settings.negative_ratio, settings.least_negatives)
    return {"boxes": BoxLoss(settings.box_weight), "classes": classes}


class BoxLoss(keras.losses.Loss):
    """Smooth L1 of the offsets of positive default boxes (eq. 2)."""

    def __init__(self, weight: float = 1.0):
        super().__init__("boxes", reduction="sum", dtype="float32")
        self.weight = weight

    def call(self, y_true, y_pred):
        """Loss of each picture.

        Args:
            y_true: (batch, count, 5), offsets and 1 where they count.
            y_pred: (batch, count, 4), offsets.
        """
        positive = y_true[..., 4]
        gap = ops.abs(y_pred - y_true[..., :4])
        smooth = ops.sum(ops.where(gap < 1, 0.5 * gap * gap, gap - 0.5), -1)
        return self.weight * ops.sum(smooth * positive, -1) / ops.maximum(ops.sum(positive), 1.0)


class _ClassLoss(keras.losses.Loss):
    """What both losses of the classes share."""

    def __init__(self):
        super().__init__("classes", reduction="sum", dtype="float32")

    @staticmethod
    def cross_entropy(y_true, y_pred):
        """Cross-entropy of each default box, and 1 where it is positive and where it is background."""
        labels = ops.cast(y_true, "int32")
        logs = ops.log_softmax(y_pred, -1)
        chosen = ops.one_hot(ops.maximum(labels, 0), y_pred.shape[-1], dtype="float32")
        positive, negative = ops.cast(labels > 0, "float32"), ops.cast(ops.equal(labels, 0), "float32")
        return -ops.sum(chosen * logs, -1), positive, negative


class MinedLoss(_ClassLoss):
    """Cross-entropy of the positives and, for each picture, of the hardest negatives (section 2.2)."""

    def __init__(self, ratio: float = 3.0, least: int = 0):
        """Describe the mining.

        Args:
            ratio: Negatives for each positive of a picture.
            least: Negatives of a picture in any case.
        """
        super().__init__()
        self.ratio, self.least = ratio, least

    def call(self, y_true, y_pred):
        """Loss of each picture.

        Args:
            y_true: (batch, count), 0 background, -1 ignored, else a class plus one.
            y_pred: (batch, count, 1 + classes), logits.
        """
        entropy, positive, negative = self.cross_entropy(y_true, y_pred)
        positives = ops.sum(positive, -1)
        wanted = ops.maximum(ops.floor(self.ratio * positives), float(self.least))
        # The sum of a picture's largest is that of the front of its sorted row.
        hardest = -ops.sort(-entropy * negative, -1)
        places = ops.cast(ops.arange(entropy.shape[-1]), "float32")[None]
        mined = ops.sum(hardest * ops.cast(places < wanted[:, None], "float32"), -1)
        return (ops.sum(entropy * positive, -1) + mined) / ops.maximum(ops.sum(positives), 1.0)


class FocalLoss(_ClassLoss):
    """Cross-entropy of all default boxes, the easy ones next to nothing (Lin et al. 2017, arXiv 1708.02002)."""

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25):
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def call(self, y_true, y_pred):
        """Loss of each picture; see `MinedLoss.call`."""
        entropy, positive, negative = self.cross_entropy(y_true, y_pred)
        weight = self.alpha * positive + (1 - self.alpha) * negative
        # The slope of a power below 1 is infinite at 0, which a box that is certain reaches.
        focal = weight * ops.maximum(1 - ops.exp(-entropy), 1e-7) ** self.gamma * entropy
        return ops.sum(focal, -1) / ops.maximum(ops.sum(positive), 1.0)
