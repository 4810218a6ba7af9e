"""Matching and losses against values computed by hand."""

import numpy as np
import pytest

from kzoo import boxes
from kzoo.data.detection.pipeline import PADDING
from kzoo.data.detection.truth import ANY
from kzoo.tasks.detection import losses
from kzoo.tasks.detection.targets import Encoder

# Four default boxes of half the image's sides, one in each quarter, and one of the whole.
DEFAULTS = np.array(
    [[0.25, 0.25, 0.5, 0.5], [0.75, 0.25, 0.5, 0.5], [0.25, 0.75, 0.5, 0.5], [0.75, 0.75, 0.5, 0.5], [0.5, 0.5, 1, 1]],
    np.float32,
)


def encode(corners, labels, overlap=0.5):
    found = Encoder(DEFAULTS, overlap)(np.array([corners], np.float32), np.array([labels], np.int32))
    return found["boxes"].numpy()[0], found["classes"].numpy()[0]


def test_a_default_box_stands_for_what_it_overlaps_enough():
    offsets, classes = encode([[0, 0, 0.5, 0.4], [0, 0, 0, 0]], [2, PADDING])
    assert classes.tolist() == [3, 0, 0, 0, 0]
    assert offsets[:, 4].tolist() == [1, 0, 0, 0, 0]
    np.testing.assert_allclose(offsets[0, :4], [0, -0.05 / 0.5 / 0.1, 0, np.log(0.8) / 0.2], rtol=1e-5, atol=1e-6)
    decoded = boxes.decode(offsets[:1, :4], DEFAULTS[:1])
    np.testing.assert_allclose(decoded, [[0, 0, 0.5, 0.4]], atol=1e-6)
    np.testing.assert_allclose(boxes.encode(decoded, DEFAULTS[:1]), offsets[:1, :4], atol=1e-5)


def test_every_object_has_its_best_default_box_however_little_it_overlaps():
    _, classes = encode([[0.8, 0.8, 0.9, 0.9]], [0])
    assert classes.tolist() == [0, 0, 0, 1, 0]
    # Of two objects with the same best box the last has it.
    _, classes = encode([[0.8, 0.8, 0.9, 0.9], [0.7, 0.7, 0.8, 0.8]], [0, 1])
    assert classes.tolist() == [0, 0, 0, 2, 0]


def test_what_is_ignored_is_neither_object_nor_background():
    _, classes = encode([[0, 0, 1, 0.5], [0.5, 0, 1, 0.5]], [ANY, 1])
    # The first quarter lies inside the ignored box, the second stands for an object.
    assert classes.tolist() == [-1, 2, 0, 0, -1]
    offsets, classes = encode([[0, 0, 0, 0]], [PADDING])
    assert not offsets.any() and not classes.any()


def test_the_loss_is_that_of_the_paper_by_hand():
    truth = np.array([[[0, 0, 0, 0, 0], [1.0, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]] * 2)
    predicted = np.zeros((2, 5, 4))
    predicted[0, 1] = [0.5, 3, 0, 0]
    predicted[1, 1] = [1, 0, 0, 0]
    # smooth L1: 0.5 * 0.25 and 3 - 0.5, over two positives
    assert float(losses.BoxLoss()(truth, predicted)) == pytest.approx((0.125 + 2.5) / 2)
    labels = np.array([[0, 2, 0, -1, 0], [0, 0, 0, 0, 0]])
    logits = np.zeros((2, 5, 3))
    logits[0, 0, 1] = 4  # the hardest negative of the first picture
    logits[0, 3, 1] = 9  # ignored
    logits[1, :, 2] = 5  # no positive, so nothing of the second picture counts
    flat, hard = np.log(3), np.log(2 + np.exp(4))
    mined = losses.MinedLoss(ratio=2.0)
    assert float(mined(labels, logits)) == pytest.approx(flat + hard + flat, rel=1e-5)
    empty = losses.MinedLoss(ratio=2.0, least=1)
    assert float(empty(labels, logits)) == pytest.approx(flat + hard + flat + np.log(2 + np.exp(5)), rel=1e-5)


def test_focal_loss_without_focus_is_weighted_cross_entropy():
    labels = np.array([[0, 2, -1]])
    logits = np.random.default_rng(0).normal(size=(1, 3, 3))
    entropy = -np.log(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True))
    expected = 0.75 * entropy[0, 0, 0] + 0.25 * entropy[0, 1, 2]
    assert float(losses.FocalLoss(0.0, 0.25)(labels, logits)) == pytest.approx(expected, rel=1e-5)
    focused = 0.75 * entropy[0, 0, 0] * (1 - np.exp(-entropy[0, 0, 0])) ** 2
    focused += 0.25 * entropy[0, 1, 2] * (1 - np.exp(-entropy[0, 1, 2])) ** 2
    assert float(losses.FocalLoss(2.0, 0.25)(labels, logits)) == pytest.approx(focused, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_of_certain_boxes_has_a_slope(gamma):
    import tensorflow as tf

    labels, logits = np.array([[0, 1, 0]]), tf.Variable([[[90.0, 0.0], [0.0, 90.0], [0.0, 1.0]]])
    with tf.GradientTape() as tape:
        loss = losses.FocalLoss(gamma)(labels, logits)
    slopes = tape.gradient(loss, logits).numpy()[0]
    assert np.isfinite(slopes).all() and abs(slopes[:2]).max() < 1e-6 and slopes[2, 1] > 0.1


def test_losses_are_float32_under_mixed_precision():
    import tensorflow as tf

    labels, logits = np.array([[0, 2, 1]]), tf.constant(np.random.default_rng(0).normal(size=(1, 3, 3)), tf.float16)
    assert losses.MinedLoss()(labels, logits).dtype == tf.float32
