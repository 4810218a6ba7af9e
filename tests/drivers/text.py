"""Language models: random tokens with their successors as targets, empty state, cross-entropy."""

import keras
import numpy as np

BATCH, LENGTH = 4, 6
LETTERS = "abcdefgh ,.\n"


def batch(model):
    rng = np.random.default_rng(0)
    tokens = rng.integers(model.output["logits"].shape[-1], size=(BATCH, LENGTH + 1)).astype("int32")
    # Rows that begin alike could not go on differently, and one token twice is the same as once to rotary attention.
    tokens[:, 0], tokens[:, 1] = np.arange(BATCH), np.arange(BATCH) + BATCH
    states = {
        t.name: np.zeros((BATCH, *(size or 0 for size in t.shape[1:])), t.dtype)
        for t in model.inputs
        if t.name != "tokens"
    }
    return {"tokens": tokens[:, :-1], **states}, tokens[:, 1:]


def loss(outputs, targets):
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(targets, outputs["logits"], from_logits=True))


def is_fitted(outputs, targets):
    return bool((np.asarray(outputs["logits"]).argmax(-1) == targets).all())


def smoke(recipe, folder):
    rng = np.random.default_rng(0)
    (folder / "text.txt").write_text("".join(rng.choice(list(LETTERS), 5000)))
    return {
        "data.source": f"file:{folder / 'text.txt'}",
        "data.batch_size": 4,
        "data.length": 20,
        "data.test": 0.1,
        "train.epochs": 1,
        "train.steps_per_epoch": 2,
        "train.sample.length": 5,
    }


def check(figures):
    assert figures["tokens"] == 499 and figures["unknown"] == 0
    assert 0 < figures["loss"] < 10 and 0 < figures["window_loss"] < 10
