import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.models.rolling_attention import RollingAttention
from kzoo.tasks.text import network as networks
from tests.conformance import Conformance
from tests.drivers import text

TINY = {"vocab_size": 9, "num_layers": 2, "num_heads": 2, "width": 32, "context": 8}
STATE = {"position": (), "cache1": (None, 64), "cache2": (None, 64)}


class TestTransformerTextgen(Conformance):
    model = "transformer_textgen"
    arguments = TINY
    shapes = ({"tokens": (None,), **STATE}, {"logits": (None, 9), **STATE})


def read(model, tokens, pieces):
    """Logits of a text that is read in pieces of the given lengths."""
    state, found, start = networks.empty_state(model, len(tokens)), [], 0
    for length in pieces:
        logits, state = networks.read(model, tf.constant(tokens[:, start : start + length]), state)
        found.append(np.array(logits))
        start += length
    return np.concatenate(found, 1)


@pytest.mark.parametrize("pieces", [(3, 3), (1,) * 6, (6,)])
def test_keys_and_values_kept_give_what_reading_at_once_gives(pieces):
    model = kzoo.build("transformer_textgen", **TINY)
    inputs, _ = text.batch(model)
    np.testing.assert_allclose(read(model, inputs["tokens"], pieces), model(inputs)["logits"], atol=2e-6)


def test_a_token_sees_its_context_and_no_further():
    # In one block: each block more sees as far again.
    model = kzoo.build("transformer_textgen", **{**TINY, "num_layers": 1, "context": 4})
    tokens = np.random.default_rng(0).integers(9, size=(1, 12)).astype("int32")
    other = tokens.copy()
    other[0, 3] = (tokens[0, 3] + 1) % 9
    changed = np.abs(read(model, tokens, (12,)) - read(model, other, (12,))).max(-1)[0] > 1e-6
    assert changed.tolist() == [False] * 3 + [True] * 4 + [False] * 5
    np.testing.assert_allclose(read(model, tokens, (5, 4, 3)), read(model, tokens, (12,)), atol=2e-6)
    state = networks.read(model, tf.constant(tokens), networks.empty_state(model, 1))[1]
    assert state["cache1"].shape == (1, 4, 64) and state["position"].numpy() == [12]


def test_attention_is_that_of_keras_own_where_nothing_turns():
    layer = RollingAttention(2, 8)
    x = np.random.default_rng(0).normal(size=(2, 1, 5, 12)).astype("float32")
    # At one place all turn alike, which the products of queries and keys do not show.
    q, k, v = (x[0, :, :, 4 * i : 4 * i + 4] for i in range(3))
    import kzoo.models.rolling_attention as module

    plain = module._rotate
    module._rotate = lambda x, places: x
    try:
        found, _ = layer(x[0], np.zeros((1, 0, 8), "float32"), np.zeros(1, "int32"))
    finally:
        module._rotate = plain
    heads = [np.reshape(part, (1, 5, 2, 2)) for part in (q, k, v)]
    wanted = keras.ops.dot_product_attention(*heads, is_causal=True)
    np.testing.assert_allclose(found, np.reshape(wanted, (1, 5, 4)), atol=1e-6)


def test_products_of_turned_vectors_depend_on_their_distance_alone():
    from kzoo.models.rolling_attention import _rotate

    a, b = np.random.default_rng(0).normal(size=(2, 1, 1, 1, 8)).astype("float32")

    def product(first, second):
        turned = [np.array(_rotate(v, np.array([[p]], "int32"))) for v, p in ((a, first), (b, second))]
        return float((turned[0] * turned[1]).sum())

    assert product(3, 1) == pytest.approx(product(103, 101), abs=1e-5)
    assert abs(product(3, 1) - product(3, 2)) > 1e-3


def test_nanogpt_sizes():
    block = 384 * 384 * (3 + 1 + 8) + 2 * 384
    assert kzoo.build("transformer_textgen").count_params() == 66 * 384 + 6 * block + 384


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 1}, "at least 2"),
        ({"width": 100, "num_heads": 6}, "do not divide"),
        ({"context": 0}, "positive"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.build("transformer_textgen", **arguments)
