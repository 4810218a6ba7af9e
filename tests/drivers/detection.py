"""Detectors: a dark and a light image, targets for every default box, the detection loss's terms without mining."""

import keras
import numpy as np

BATCH = 2


def batch(model):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(BATCH, *model.inputs[0].shape[1:]), scale=0.3).astype("float32")
    images += 2 * np.arange(BATCH, dtype="float32")[:, None, None, None] - 1
    count, classes = model.output["classes"].shape[1:]
    # Each image has one answer for all of its default boxes.
    labels = np.repeat(np.arange(BATCH)[:, None] % classes, count, 1)
    return images, {"labels": labels, "offsets": np.repeat(labels[..., None] - 0.5, 4, -1).astype("float32")}


def loss(outputs, targets):
    classes = keras.losses.sparse_categorical_crossentropy(targets["labels"], outputs["classes"], from_logits=True)
    return keras.ops.mean(classes) + keras.ops.mean((outputs["boxes"] - targets["offsets"]) ** 2)


def is_fitted(outputs, targets):
    return (np.asarray(outputs["classes"]).argmax(-1) == targets["labels"]).mean() > 0.99


def smoke(recipe, folder):
    # The real network, but for its size: as many maps, layers and default boxes at a cell.
    height, width = recipe.arguments["input_shape"][:2]
    return {
        "arguments.input_shape": [max(64, height // 4), max(64, width // 4), 3],
        "arguments.width": 0.0625,
        "arguments.batch_norm": True,
        "data.source": "builtin:scenes",
        "data.root": None,
        "data.parts": {},
        "data.classes": ["Car", "Pedestrian"],
        "data.class_map": {"Van": "Car"},
        "data.limit": 8,
        "data.batch_size": 2,
        "arguments.num_classes": 2,
        "arguments.backbone_weights": None,
        "train.epochs": 1,
        "train.steps_per_epoch": 1,
    }


def check(figures):
    assert figures["pictures"] == 8 and 0 <= figures["map50"] <= 1
