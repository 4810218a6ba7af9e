"""Classifiers: random images, balanced labels, cross-entropy."""

import keras
import numpy as np

BATCH = 8

# Image shape of each source; a stand-in of that shape is used, because the sets themselves are large or absent.
SHAPES = {"builtin:digits": (8, 8, 1), "tfds:mnist": (28, 28, 1), "tfds:cifar10": (32, 32, 3)}


def batch(model):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, *model.inputs[0].shape[1:])).astype("float32")
    return images, np.arange(BATCH) % model.outputs[0].shape[-1]


def loss(outputs, labels):
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(labels, outputs, from_logits=True))


def is_fitted(outputs, labels):
    return bool((np.asarray(outputs).argmax(-1) == labels).all())


def smoke(recipe, folder):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, *SHAPES[recipe.data.source]), dtype=np.uint8)
    labels = np.arange(200) % 10
    np.savez(folder / "d.npz", x_train=pixels, y_train=labels, x_test=pixels[:20], y_test=labels[:20])
    return {
        "data.source": f"npz:{folder / 'd.npz'}",
        "data.batch_size": 32,
        "data.validation": 0.2,
        "train.epochs": 1,
        "train.steps_per_epoch": 2,
    }


def check(figures):
    assert figures["examples"] == 20 and np.isfinite(figures["loss"])
