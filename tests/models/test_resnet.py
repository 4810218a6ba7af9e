import numpy as np
import pytest

import kzoo
from tests.conformance import Conformance


def trainable(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


class TestResnet(Conformance):
    model = "resnet"
    arguments = {"input_shape": (12, 8, 3), "num_classes": 4, "width": 4}
    shapes = ((12, 8, 3), (4,))


class TestBottleneckResnet(Conformance):
    model = "resnet"
    arguments = {"input_shape": (40, 32, 3), "num_classes": 4, "width": 4, "depth": 50}
    shapes = ((40, 32, 3), (4,))


@pytest.mark.parametrize(
    ("depth", "count"), [(18, 11_689_512), (34, 21_797_672), (50, 25_557_032), (101, 44_549_160), (152, 60_192_808)]
)
def test_imagenet_networks_have_torchvisions_parameters(depth, count):
    model = kzoo.build("resnet", input_shape=(224, 224, 3), num_classes=1000, depth=depth)
    assert trainable(model) == count
    assert model.get_layer("global_average").input.shape[1:3] == (7, 7)


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)])
def test_cifar_networks_have_the_papers_parameters(depth, millions):
    count = trainable(kzoo.build("resnet", depth=depth)) / 1e6
    assert count == pytest.approx(millions, abs=0.05 if depth == 110 else 0.005)


def test_padded_shortcuts_pass_every_second_pixel_on_and_add_nothing():
    model = kzoo.build("resnet", input_shape=(8, 8, 3), width=4)
    inner = model.get_layer("stage2_block1_flat")
    import keras

    pixels = np.random.default_rng(0).random((2, 8, 8, 3)).astype("float32")
    ends = keras.Model(model.input, [model.get_layer("stage1_block3_activation").output, inner.output])
    before, after = (np.array(v) for v in ends(pixels))
    assert np.array_equal(after[..., 2:6], before[:, ::2, ::2])
    assert not after[..., :2].any() and not after[..., 6:].any()


def test_blocks_can_start_as_the_identity():
    model = kzoo.build("resnet", zero_init_residual=True)
    assert not np.array(model.get_layer("stage2_block3_2_norm").gamma).any()
    assert np.array(model.get_layer("stage2_block3_1_norm").gamma).all()


def test_bad_arguments_are_one_sentence():
    with pytest.raises(kzoo.RequestError, match="20, 32, 34"):
        kzoo.build("resnet", depth=21)
