import keras
import numpy as np
import pytest

import kzoo
from tests.conformance import Conformance

SMALL = {"input_shape": (64, 96, 3), "num_classes": 2, "width": 0.0625, "batch_norm": True}
SMALL |= {"extras": ("halve",), "scales": (0.1, 0.3, 0.6, 0.9), "aspect_ratios": ((2.0,), (2.0, 3.0), (2.0,))}
SSD512 = {
    "input_shape": (512, 512, 3),
    "extras": ("halve",) * 4 + ("close",),
    "scales": (0.07, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.05),
    "aspect_ratios": ((2.0,), *((2.0, 3.0),) * 4, (2.0,), (2.0,)),
}


class TestVgg16Detector(Conformance):
    model = "vgg16_detector"
    arguments = SMALL
    # 8x12 cells of 4 boxes, 4x6 of 6 and 2x3 of 4
    shapes = ((64, 96, 3), {"boxes": (552, 4), "classes": (552, 3)})


class TestSquareDetectorWithoutNormalisation(Conformance):
    model = "vgg16_detector"
    arguments = {**SMALL, "input_shape": (64, 64, 3), "batch_norm": False, "width": 0.1}
    shapes = ((64, 64, 3), {"boxes": (368, 4), "classes": (368, 3)})


@pytest.mark.parametrize(
    ("objects", "count"), [(3, 24_013_232), (20, 26_285_486), (90, 35_641_826)], ids=["kitti", "voc", "coco"]
)
def test_ssd300_has_the_published_parameters_and_default_boxes(objects, count):
    model = kzoo.build("vgg16_detector", num_classes=objects)
    assert model.count_params() == count
    assert model.output["classes"].shape == (None, 8732, 1 + objects)
    assert model.default_boxes.shape == (8732, 4)
    sides = [model.get_layer(f"head{i}_boxes_conv").output.shape[1:3] for i in range(1, 7)]
    assert sides == [(n, n) for n in (38, 19, 10, 5, 3, 1)]
    backbone = [layer for layer in model.layers if layer.name.startswith("stage")]
    assert sum(layer.count_params() for layer in backbone) == 14_714_688


def test_ssd512_has_the_maps_of_the_paper():
    model = kzoo.build("vgg16_detector", **SSD512)
    sides = [model.get_layer(f"head{i}_boxes_conv").output.shape[1] for i in range(1, 8)]
    assert sides == [64, 32, 16, 8, 4, 2, 1]
    assert len(model.default_boxes) == 24_564


def test_default_boxes_of_ssd300_are_those_of_the_formula():
    boxes = kzoo.build("vgg16_detector").default_boxes
    root = np.sqrt(0.07 * 0.15)
    # conv4_3: step 8 of 300 pixels, two squares, then the ratio 2 wide and tall
    expected = [(4 / 300, 4 / 300, w, h) for w, h in ((0.07, 0.07), (root, root))]
    expected += [(4 / 300, 4 / 300, 0.07 * a, 0.07 / a) for a in (2**0.5, 2**-0.5)]
    np.testing.assert_allclose(boxes[:4], expected, atol=1e-7)
    np.testing.assert_allclose(boxes[4, :2], [12 / 300, 4 / 300], atol=1e-7)
    np.testing.assert_allclose(boxes[-4], [0.5, 0.5, 0.87, 0.87], atol=1e-7)
    # the largest are cut to the image
    assert boxes[:, 2:].max() == 1
    np.testing.assert_allclose(boxes[-4 - 36, :2], [1 / 6, 1 / 6], atol=1e-6)


def test_squares_are_square_in_pixels_whatever_the_image():
    model = kzoo.build("vgg16_detector", **SMALL)
    size = model.default_boxes[:2, 2:] * [96, 64]
    np.testing.assert_allclose(size, [[6.4, 6.4], [64 * 0.03**0.5] * 2], rtol=1e-5)
    np.testing.assert_allclose(model.default_boxes[0, :2] * [96, 64], [4, 4], rtol=1e-5)


def test_the_backbone_is_that_of_keras_applications_layer_by_layer(tmp_path):
    keras.utils.set_random_seed(0)
    theirs = keras.applications.VGG16(include_top=False, weights=None, input_shape=(64, 96, 3))
    theirs.save_weights(tmp_path / "vgg16.weights.h5")
    shape = {k: v for k, v in SMALL.items() if k not in ("width", "batch_norm")}
    ours = kzoo.build("vgg16_detector", **shape, backbone_weights=str(tmp_path / "vgg16.weights.h5"))
    names = [(f"block{s}_conv{b}", f"stage{s}_block{b}_activation") for s in range(1, 6) for b in range(1, 3 + (s > 2))]
    names += [(f"block{s}_pool", f"stage{s}_pool") for s in range(1, 5)]
    expected = keras.Model(theirs.input, [theirs.get_layer(a).output for a, _ in names])
    found = keras.Model(ours.input, [ours.get_layer(b).output for _, b in names])
    rgb = np.random.default_rng(0).normal(size=(1, 64, 96, 3), scale=60).astype("float32")
    for (name, _), a, b in zip(names, expected(rgb[..., ::-1]), found(rgb), strict=True):
        scale = np.abs(a).max()
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale, err_msg=name)


def test_weights_that_cannot_be_had_are_explained_within_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))

    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr("kzoo.models.vgg16_detector.socket.create_connection", refuse)
    with pytest.raises(kzoo.RequestError, match=r"notop\.h5 at .*, name such a file .*backbone_weights=null"):
        kzoo.build("vgg16_detector", backbone_weights="imagenet")
    with pytest.raises(kzoo.RequestError, match="there is no file /nowhere"):
        kzoo.build("vgg16_detector", backbone_weights="/nowhere.h5")
    (tmp_path / "bad.h5").write_bytes(b"nothing")
    with pytest.raises(kzoo.RequestError, match=r"bad\.h5 cannot be loaded"):
        kzoo.build("vgg16_detector", backbone_weights=str(tmp_path / "bad.h5"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (256, 256, 3)}, "too small .* 'valid', number 4, gets a map of 2x2"),
        ({"scales": (0.1, 0.2)}, "6 lists of aspect_ratios and 7 scales"),
        ({"num_classes": 0}, "num_classes is 0"),
        ({"width": 0.5, "backbone_weights": "imagenet"}, "only width 1"),
        ({"aspect_ratios": ((0.5,), *((2.0,),) * 5)}, "above 1"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.build("vgg16_detector", **arguments)


def test_maps_of_earlier_stages_have_cells_that_are_closer_together():
    more = {"taps": (3, 4), "scales": (0.05, 0.1, 0.3, 0.6, 0.9), "aspect_ratios": ((3.0,), *SMALL["aspect_ratios"])}
    model = kzoo.build("vgg16_detector", **{**SMALL, **more})
    assert len(model.default_boxes) == 16 * 24 * 4 + 552
    np.testing.assert_allclose(model.default_boxes[:8:4, :2] * [96, 64], [[2, 2], [6, 2]], rtol=1e-5)
    with pytest.raises(kzoo.RequestError, match=r"taps are \[4, 3\]"):
        kzoo.build("vgg16_detector", **{**SMALL, **more, "taps": (4, 3)})


def test_a_prior_is_what_an_untrained_detector_answers():
    model = kzoo.build("vgg16_detector", **{**SMALL, "prior": 0.02})
    logits = model(np.zeros((1, 64, 96, 3), "float32"))["classes"]
    probabilities = np.asarray(keras.ops.softmax(logits))
    np.testing.assert_allclose(1 - probabilities[..., 0], 0.02, rtol=1e-4)
    np.testing.assert_allclose(probabilities[..., 1:], 0.01, rtol=1e-4)
    with pytest.raises(kzoo.RequestError, match="prior is 1.5"):
        kzoo.build("vgg16_detector", **{**SMALL, "prior": 1.5})
