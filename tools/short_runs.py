"""Short runs of shipped recipes: their own networks, a few steps, on data that every machine has.

Pictures that would have to be fetched are replaced by scikit-learn's digits in the same size, texts by what Python says
of itself, and road photographs by drawn scenes. What such a run has learnt is of no use; what can be exported of it is.
"""

from pathlib import Path

import numpy as np

from kzoo import recipe as recipes
from kzoo.files import atomic, write_text

# Height, width and channels of the pictures of sets that may be absent.
SHAPES = {"tfds:mnist": (28, 28, 1), "tfds:cifar10": (32, 32, 3)}
# What makes an episode short, by what an environment's name begins with.
EPISODES = {
    "ALE/": {"max_num_frames_per_episode": 120},
    "highway-": {"config": {"duration": 5}},
}


def load(name: str, precision: str, folder: Path):
    """A shipped recipe with settings for a short run.

    Args:
        name: Such as ``cnn_classifier/digits``.
        precision: ``float32`` or a mixed policy.
        folder: Where data may be written that stand in for others.
    """
    recipe = recipes.load_recipe(name)
    return recipes.load_recipe(name, {**_SETTINGS[recipe.task](recipe, folder), "train.precision": precision})


def _classification(recipe, folder: Path) -> dict:
    settings = {"train.epochs": 2, "train.steps_per_epoch": 15, "train.jit_compile": False}
    settings |= {"train.optimizer": {"name": "adam", "learning_rate": 1e-3}, "train.schedule": {"name": "constant"}}
    settings |= {"data.batch_size": 32, "data.validation": 0.1}
    if recipe.data.source in SHAPES:
        settings["data.source"] = f"npz:{_digits(SHAPES[recipe.data.source], folder)}"
    return settings


def _digits(shape: tuple[int, int, int], folder: Path) -> Path:
    from scipy import ndimage
    from sklearn.datasets import load_digits

    path = folder / f"digits-{shape[0]}x{shape[1]}x{shape[2]}.npz"
    if not path.is_file():
        digits = load_digits()
        images = ndimage.zoom(digits.images, (1, shape[0] / 8, shape[1] / 8), order=1)
        # Smooth grey pictures have hardly any variance but one: networks that whiten it would enlarge rounding.
        rng = np.random.default_rng(0)
        images = images[..., None] * rng.uniform(8, 15.9, (len(images), 1, 1, shape[2]))
        images = np.uint8(np.clip(images + rng.normal(scale=16, size=images.shape), 0, 255))
        labels = digits.target.astype(np.int64)
        parts = {"x_train": images[:1500], "y_train": labels[:1500], "x_test": images[1500:], "y_test": labels[1500:]}
        with atomic(path) as temporary:
            np.savez(temporary, **parts)
    return path


def _text(recipe, folder: Path) -> dict:
    from pydoc_data import topics

    path = folder / "topics.txt"
    if not path.is_file():
        write_text(path, "\n\n".join(topics.topics[name].strip("\n") for name in sorted(topics.topics))[:60_000])
    settings = {"data.source": f"file:{path}", "data.test": 0.05, "data.batch_size": 8}
    settings["data.length"] = min(64, recipe.data.length)
    return {**settings, "train.epochs": 1, "train.steps_per_epoch": 15, "train.sample.length": 0}


def _control(recipe, folder: Path) -> dict:
    short = next((v for k, v in EPISODES.items() if recipe.data.env.startswith(k)), {})
    return {
        "data.env_arguments": {**recipe.data.env_arguments, **short},
        "train.steps": 512,
        "train.evaluate_every": 256,
        "train.starts": 100,
        "train.train_every": recipe.data.num_envs * 8,
        "train.gradient_steps": 2,
        "train.capacity": 1000,
        "train.episodes": 1,
        "train.test_episodes": 10,
    }


def _detection(recipe, folder: Path) -> dict:
    return {
        "arguments.num_classes": 2,
        "arguments.backbone_weights": None,
        "data.source": "builtin:scenes",
        "data.root": None,
        "data.parts": {},
        "data.classes": ["Car", "Pedestrian"],
        "data.class_map": {"Van": "Car"},
        "data.limit": 8,
        "data.batch_size": 2,
        "train.epochs": 1,
        "train.steps_per_epoch": 2,
    }


_SETTINGS = {"classification": _classification, "text": _text, "control": _control, "detection": _detection}
