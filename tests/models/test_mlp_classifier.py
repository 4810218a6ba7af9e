import pytest

import kzoo
from tests.conformance import Conformance


class TestMlpClassifier(Conformance):
    model = "mlp_classifier"
    arguments = {"input_shape": (4, 5, 1), "num_classes": 3, "units": (16, 16), "batch_norm": True}
    shapes = ((4, 5, 1), (3,))


def test_the_784_100_100_10_network():
    assert kzoo.build("mlp_classifier").count_params() == 784 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_activation_is_a_choice(activation):
    model = kzoo.build("mlp_classifier", activation=activation)
    assert model.get_layer("dense2_activation").activation.__name__ == activation


def test_widths_must_be_positive():
    with pytest.raises(kzoo.RequestError, match="positive"):
        kzoo.build("mlp_classifier", units=(10, 0))
