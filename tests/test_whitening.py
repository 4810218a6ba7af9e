import keras
import numpy as np
import pytest

import kzoo
from kzoo.data.images import Images
from kzoo.data.pipeline import Normalization
from kzoo.tasks.classification import whitening

WHITENED = {
    "arguments": {"filters": [8, 16], "blocks_per_stage": 1, "stem_filters": 8, "batch_norm": True},
    "train.whiten": "stem_conv",
    "train.epochs": 2,
    "train.ema": None,
    "train.lookahead": {},
    "data.augment": {"flip": "alternating", "translate": 1},
    "data.tta": "mirror_translate",
}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(600, 12, 12, 3)).cumsum(1).cumsum(2)
    return Images(np.clip(128 + 8 * noise, 0, 255).astype(np.uint8), np.zeros(600))


def test_the_kernel_makes_patches_white(images):
    normalization = Normalization((128.0,) * 3, (64.0,) * 3)
    kernel = whitening.kernel(images, normalization, (2, 2))
    assert kernel.shape == (2, 2, 3, 24) and np.array_equal(kernel[..., :12], -kernel[..., 12:])
    values = normalization(images.pixels.astype(np.float32))
    white = np.array(keras.ops.conv(values, kernel[..., :12], padding="valid")).reshape(-1, 12)
    covariance = white.T @ white / len(white)
    correlation = covariance / np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    np.testing.assert_allclose(correlation, np.eye(12), atol=2e-3)
    assert covariance[0, 0] == pytest.approx(1, abs=1e-3), "the largest direction has unit variance"


def test_the_kernel_does_not_depend_on_how_many_images_are_looked_at_once(images, monkeypatch):
    how = images, Normalization((128.0,) * 3, (64.0,) * 3), (2, 2)
    whole = whitening.kernel(*how)
    monkeypatch.setattr(whitening, "_VALUES", 1)
    # Signs are arbitrary, and directions of nearly one variance turn with a rounding; what they whiten does not.
    whole, pieces = (k.reshape(12, 24) for k in (whole, whitening.kernel(*how)))
    np.testing.assert_allclose(pieces @ pieces.T, whole @ whole.T, rtol=1e-3, atol=1e-3 * np.square(whole).max())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = kzoo.load_recipe("cnn_classifier/digits", WHITENED)
    return kzoo.train(recipe, out=tmp_path_factory.mktemp("whitened") / "run")


def test_training_leaves_the_kernel_as_it_is_and_trains_its_bias(run):
    model = kzoo.load(run.path)
    layer = model.get_layer("stem_conv")
    half = np.array(layer.kernel)[..., :4]
    assert np.array_equal(half, -np.array(layer.kernel)[..., 4:]) and np.abs(half).max() > 0.1
    assert np.abs(layer.bias).max() > 0
    rows = run.metrics()
    assert float(rows[-1]["val_accuracy"]) > 0.2, "more than by chance"


def test_a_stopped_training_goes_on_bit_for_bit(run, tmp_path):
    recipe = kzoo.load_recipe("cnn_classifier/digits", WHITENED)
    kzoo.train(recipe, out=tmp_path / "run", until=1)
    again = kzoo.train(recipe, out=tmp_path / "run")
    for a, b in zip(kzoo.load(again.path).get_weights(), kzoo.load(run.path).get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.summary["test"] == run.summary["test"] and "accuracy_tta" in run.summary["test"]


def test_the_bias_is_trained_for_as_many_epochs_as_the_recipe_says(tmp_path):
    settings = {**WHITENED, "train.lookahead": None, "train.epochs": 3, "train.whiten_bias_epochs": 1}
    recipe = kzoo.load_recipe("cnn_classifier/digits", settings)
    biases, weights = [], []
    for epochs in (1, 2, 3):
        run = kzoo.train(recipe, out=tmp_path / "run", until=epochs)
        with np.load(run.path / "checkpoints" / "last.npz") as stored:
            biases.append(next(stored[k] for k in stored if "@stem_conv/bias" in k))
            weights.append(next(stored[k] for k in stored if "@logits/kernel" in k))
    assert np.abs(biases[0]).max() > 0 and np.array_equal(biases[0], biases[1]) and np.array_equal(biases[1], biases[2])
    assert not np.array_equal(weights[1], weights[2])
    at_once = kzoo.load(kzoo.train(recipe, out=tmp_path / "at_once").path)
    for a, b in zip(at_once.get_weights(), kzoo.load(tmp_path / "run").get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.whiten": "nonsense"}, "no convolution 'nonsense'; it has stem_conv, stage1_block1_conv"),
        ({"train.steps_per_execution": 1000}, "is 1000, and an epoch has"),
        ({"train.whiten": "stage1_block1_conv"}, "has 8 filters, .* 3x3 patches of 8 channels gives 144"),
    ],
)
def test_what_cannot_be_whitened_is_refused(overrides, message, tmp_path):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.train(kzoo.load_recipe("cnn_classifier/digits", {**WHITENED, **overrides}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
