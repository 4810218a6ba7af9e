import numpy as np
import pytest

import kzoo


@pytest.mark.parametrize(
    ("name", "arguments", "shapes"),
    [
        (
            "cnn_classifier",
            {"filters": (4, 6), "stem_filters": 8},
            {"stem": (31, 8), "stage1": (15, 4), "stage2": (7, 6)},
        ),
        ("speedrun_cnn", {"widths": (8, 12)}, {"stem": (31, 24), "group1": (15, 8), "group2": (7, 12)}),
        ("resnet", {"width": 4}, {"stem": (32, 4), "stage1": (32, 4), "stage2": (16, 8), "stage3": (8, 16)}),
        (
            "dqn_nature_cnn",
            {"observation_shape": (32, 32, 3), "filters": (4, 6), "kernels": (4, 3), "strides": (2, 1)},
            {"conv1": (15, 4), "conv2": (13, 6)},
        ),
    ],
)
def test_stages_of_every_convolutional_builder(name, arguments, shapes):
    model = kzoo.build(name, **arguments)
    maps = kzoo.features(model)
    found = maps(np.zeros((2, 32, 32, 3), "float32"))
    assert {k: tuple(v.shape) for k, v in found.items()} == {k: (2, s, s, c) for k, (s, c) in shapes.items()}
    layer = model.layers[1]
    assert any(part is layer for part in maps.layers), "layers are shared, so that training one trains the other"


def test_the_last_stage_is_what_the_head_reads():
    model = kzoo.build("resnet", width=4)
    image = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")
    last = np.array(kzoo.features(model)(image)["stage3"])
    head = model.get_layer("logits")
    np.testing.assert_allclose(model(image), last.mean((1, 2)) @ np.array(head.kernel), rtol=1e-4, atol=1e-5)


def test_a_model_without_stages_is_refused():
    with pytest.raises(kzoo.RequestError, match="no stages"):
        kzoo.features(kzoo.build("mlp_classifier"))
