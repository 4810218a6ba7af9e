"""Q-networks: random observations, random values to learn."""

import keras
import numpy as np
import pytest

BATCH = 8

# Families whose package is an extra, and what makes their episodes short.
EXTRAS = {
    "ALE/": ("ale_py", {"max_num_frames_per_episode": 120}),
    "MinAtar/": ("minatar", {}),
    "highway-": ("highway_env", {"config": {"duration": 1}}),
}


def batch(model):
    rng = np.random.default_rng(0)
    observations = rng.uniform(0, 1, (BATCH, *model.inputs[0].shape[1:])).astype("float32")
    return observations, rng.normal(size=(BATCH, *model.outputs[0].shape[1:])).astype("float32")


def loss(outputs, values):
    return keras.ops.mean(keras.ops.square(outputs - values))


def is_fitted(outputs, values):
    return bool((np.asarray(outputs).argmax(-1) == values.argmax(-1)).all())


def smoke(recipe, folder):
    short = {}
    for prefix, (package, arguments) in EXTRAS.items():
        if recipe.data.env.startswith(prefix):
            pytest.importorskip(package, reason=f"{recipe.data.env} needs an extra")
            short = arguments
    return {
        "data.env_arguments": {**recipe.data.env_arguments, **short},
        "train.steps": 128,
        "train.evaluate_every": 64,
        "train.starts": 50,
        "train.train_every": recipe.data.num_envs * 8,
        "train.gradient_steps": 2,
        "train.capacity": 1000,
        "train.episodes": 1,
        "train.test_episodes": 3,
    }


def check(figures):
    assert figures["episodes"] == 3 and np.isfinite(figures["return"])
