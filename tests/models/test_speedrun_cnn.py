import numpy as np
import pytest

import kzoo
from tests.conformance import Conformance


class TestSpeedrunCnn(Conformance):
    model = "speedrun_cnn"
    # The identity start and the scale of the logits are for many steps; conformance takes few.
    arguments = {"input_shape": (9, 13, 3), "num_classes": 4, "widths": (8, 16), "logit_divisor": 1.0}
    shapes = ((9, 13, 3), (4,))


def test_the_network_for_94_percent_has_the_papers_size():
    model = kzoo.build("speedrun_cnn")
    stem = 2 * 2 * 3 * 24 + 24
    convolutions = 9 * (24 * 64 + 64 * 64 + 64 * 256 + 256 * 256 + 256 * 256 + 256 * 256)
    norms = 3 * 2 * (64 + 256 + 256)
    assert model.count_params() == stem + convolutions + norms + 256 * 10
    assert model.get_layer("global_max").input.shape[1:] == (3, 3, 256)


def test_convolutions_start_as_the_identity():
    model = kzoo.build("speedrun_cnn", widths=(32, 16))
    wider, narrower = (np.array(model.get_layer(f"group{n}_block1_conv").kernel) for n in (1, 2))
    assert np.array_equal(wider[1, 1, :, :24], np.eye(24)) and not wider[0, ..., :24].any()
    assert wider[..., 24:].any()
    assert np.array_equal(narrower[1, 1, :16], np.eye(16)) and np.abs(narrower).sum() == 16


def test_residual_networks_of_three_convolutions():
    model = kzoo.build("speedrun_cnn", widths=(8, 8), convolutions=3, residual=True)
    names = {layer.name for layer in model.layers}
    assert {"group1_add", "group2_block3_conv"} <= names and "group2_block4_conv" not in names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"input_shape": (8, 8, 3)}, "at least 9 pixels"),
        ({"widths": ()}, "at least one group"),
        ({"num_classes": 1}, "at least 2"),
        ({"logit_divisor": 0.0}, "logit_divisor is 0.0, and must be above 0"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.build("speedrun_cnn", **arguments)
