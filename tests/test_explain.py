import json

import keras
import numpy as np
import pytest

import kzoo
from kzoo.tasks.classification import gradcam


@pytest.fixture(scope="module")
def network():
    """One convolution, a mean and a linear layer, whose gradient is known on paper."""
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 5, 2), name="image")
    maps = keras.layers.Conv2D(4, 3, padding="same", name="maps")(image)
    pooled = keras.layers.GlobalAveragePooling2D()(maps)
    return keras.Model(image, keras.layers.Dense(3, name="logits")(pooled))


def test_the_heat_is_that_of_the_hand_computed_gradient(network):
    images = np.random.default_rng(0).normal(size=(4, 6, 5, 2)).astype("float32")
    classes = np.array([0, 2, 1, 0])
    layer = network.get_layer("maps")
    found = np.stack([gradcam.heat_maps(network, layer, images[n : n + 1], c)[0][0] for n, c in enumerate(classes)])
    # The mean over 6 x 5 places passes each weight of the class on to each place, divided by their number.
    gradient = np.array(network.get_layer("logits").kernel)[:, classes].T / 30
    features = np.array(keras.Model(network.input, network.get_layer("maps").output)(images))
    np.testing.assert_allclose(
        found, np.maximum(np.einsum("nyxk,nk->nyx", features, gradient), 0), rtol=1e-4, atol=1e-6
    )


def test_the_last_layer_with_maps_is_the_default(network):
    assert gradcam.feature_layer(network).name == "maps"
    model = kzoo.build("cnn_classifier", input_shape=(8, 8, 1), filters=(4, 4))
    assert gradcam.feature_layer(model).name == "stage2_block2_activation"
    with pytest.raises(kzoo.RequestError, match="no layer 'logits' that gives .* its last ones: .*stage2_pool"):
        gradcam.feature_layer(model, "logits")
    with pytest.raises(kzoo.RequestError, match="no convolutional layer"):
        gradcam.feature_layer(kzoo.build("mlp_classifier"))


def test_the_overlay_leaves_cold_places_as_they_are():
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), dtype=np.uint8)
    heat = np.zeros((10, 10))
    heat[0, 0] = 4
    shown = gradcam.overlay(pixels, heat)
    assert shown.shape == pixels.shape and np.array_equal(shown[100:], pixels[100:])
    assert np.abs(shown[:20, :20].astype(int) - pixels[:20, :20]).max() > 50
    assert gradcam.overlay(pixels[:8, :10, :1], heat).shape == (256, 320, 3)


def test_explain_writes_a_picture_for_each_input(small_run, command, tmp_path):
    from PIL import Image

    with np.load(small_run.path / "samples.npz") as stored:
        images = stored["images"]
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        Image.fromarray(images[0][..., 0]).save(tmp_path / folder / "digit.png")
    done = command("explain", small_run.path, tmp_path / "a", tmp_path / "b", "--json", "--out", tmp_path / "out")
    assert done.code == 0, done.err
    answers = json.loads(done.out)
    assert len({a["picture"] for a in answers}) == 2
    for answer in answers:
        with Image.open(answer["picture"]) as picture:
            assert picture.size == (256, 256) and picture.mode == "RGB"
    assert answers[0]["label"] == kzoo.predict(small_run, images[0])[0]["label"]


def test_explain_refuses_what_is_not_there(small_run, command, tmp_path):
    with np.load(small_run.path / "samples.npz") as stored:
        image = stored["images"][0]
    with pytest.raises(kzoo.RequestError, match="no label 'nin'"):
        kzoo.explain(small_run, [image], out=tmp_path, label="nin")
    with pytest.raises(kzoo.RequestError, match="no option 'lable' of explain; did you mean 'label'"):
        kzoo.explain(small_run, [image], out=tmp_path / "out", lable="9")
    assert not (tmp_path / "out").exists()
    done = command("explain", small_run.path, tmp_path / "nowhere.png")
    assert done.code == 2 and "no such file" in done.err and "Traceback" not in done.err
