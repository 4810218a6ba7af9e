"""Every shipped recipe runs: a few steps of its real network, optimiser, schedule and augmentation."""

import numpy as np
import pytest

import kzoo

# Image shape of each source; a stand-in of that shape is used, because the sets themselves are large or absent.
SHAPES = {"builtin:digits": (8, 8, 1), "tfds:mnist": (28, 28, 1), "tfds:cifar10": (32, 32, 3)}


@pytest.mark.parametrize("name", kzoo.list_recipes())
def test_recipe_smoke_runs(name, tmp_path):
    source = kzoo.load_recipe(name).data.source
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (200, *SHAPES[source]), dtype=np.uint8)
    labels = np.arange(200) % 10
    np.savez(tmp_path / "d.npz", x_train=pixels, y_train=labels, x_test=pixels[:20], y_test=labels[:20])
    changed = {
        "data.source": f"npz:{tmp_path / 'd.npz'}",
        "data.batch_size": 32,
        "data.validation": 0.2,
        "train.epochs": 1,
        "train.steps_per_epoch": 2,
    }
    run = kzoo.train(kzoo.load_recipe(name, changed), out=tmp_path / "run")
    assert run.summary["test"]["examples"] == 20 and np.isfinite(run.summary["test"]["loss"])
