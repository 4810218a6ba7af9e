import numpy as np
import pytest

import kzoo
from tests.conformance import Conformance


class TestDqnMlp(Conformance):
    model = "dqn_mlp"
    arguments = {"observation_shape": (5,), "num_actions": 3, "hidden": (32, 16), "activation": "tanh"}
    shapes = ((5,), (3,))


class TestDuelingDqnMlp(TestDqnMlp):
    arguments = {**TestDqnMlp.arguments, "dueling": True}

    def test_declared_parameter_count_is_that_of_the_default_network(self):
        model = self.build()
        assert model.count_params() == 5 * 32 + 32 + 2 * (32 * 16 + 16) + (16 + 1) + (16 * 3 + 3)


def test_dueling_values_are_value_plus_centred_advantages():
    model = kzoo.build("dqn_mlp", dueling=True, num_actions=4, hidden=(8,))
    inner = {n: model.get_layer(n) for n in ("value", "advantage", "value_hidden", "advantage_hidden")}
    seen = np.random.default_rng(0).normal(size=(6, 4)).astype("float32")
    value = np.array(inner["value"](inner["value_hidden"](seen)))
    advantage = np.array(inner["advantage"](inner["advantage_hidden"](seen)))
    expected = value + advantage - advantage.mean(1, keepdims=True)
    np.testing.assert_allclose(model(seen), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arguments", [{"num_actions": 1}, {"hidden": ()}, {"hidden": (0,)}])
def test_bad_arguments_are_one_sentence(arguments):
    with pytest.raises(kzoo.RequestError, match="at least 2 actions"):
        kzoo.build("dqn_mlp", **arguments)
