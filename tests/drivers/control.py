"""Q-networks: random observations, random values to learn."""

import keras
import numpy as np

BATCH = 8


def batch(model):
    rng = np.random.default_rng(0)
    observations = rng.uniform(0, 1, (BATCH, *model.inputs[0].shape[1:])).astype("float32")
    return observations, rng.normal(size=(BATCH, *model.outputs[0].shape[1:])).astype("float32")


def loss(outputs, values):
    return keras.ops.mean(keras.ops.square(outputs - values))


def is_fitted(outputs, values):
    return bool((np.asarray(outputs).argmax(-1) == values.argmax(-1)).all())


def smoke(recipe, folder):
    return {
        "train.steps": 200,
        "train.evaluate_every": 100,
        "train.starts": 50,
        "train.train_every": recipe.data.num_envs * 8,
        "train.gradient_steps": 2,
        "train.capacity": 1000,
        "train.episodes": 2,
        "train.test_episodes": 3,
    }


def check(figures):
    assert figures["episodes"] == 3 and np.isfinite(figures["return"])
