import numpy as np
import pytest

import kzoo
from tests.conformance import Conformance


class TestDqnNatureCnn(Conformance):
    model = "dqn_nature_cnn"
    arguments = {
        "observation_shape": (13, 11, 2),
        "num_actions": 3,
        "filters": (8, 8),
        "kernels": (4, 3),
        "strides": (2, 1),
        "hidden": 32,
        "scale": 1.0,
    }
    shapes = ((13, 11, 2), (3,))


@pytest.mark.parametrize(("actions", "parameters"), [(4, 1_686_180), (6, 1_687_206), (18, 1_693_362)])
def test_the_network_has_the_papers_size(actions, parameters):
    model = kzoo.build("dqn_nature_cnn", num_actions=actions)
    assert model.count_params() == parameters
    assert model.get_layer("conv3").output.shape[1:] == (7, 7, 64)


def test_bytes_are_scaled_to_one():
    model = kzoo.build("dqn_nature_cnn")
    white = np.full((1, 84, 84, 4), 255, np.float32)
    np.testing.assert_allclose(model.get_layer("scale")(white), 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"observation_shape": (30, 84, 4)}, "30x84 is too small"),
        ({"filters": (8,)}, "filters, kernels and strides"),
        ({"scale": 0.0}, "scale must be positive"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.build("dqn_nature_cnn", **arguments)
