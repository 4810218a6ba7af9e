import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.build import portable
from kzoo.models.fast_lstm import LSTM
from tests.conformance import Conformance, same
from tests.drivers import text


class TestLstmTextgen(Conformance):
    model = "lstm_textgen"
    arguments = {"vocab_size": 9, "num_layers": 2, "units": 16, "embedding": 8}
    shapes = (
        {"tokens": (None,), **{k: (16,) for k in ("h1", "c1", "h2", "c2")}},
        {"logits": (None, 9), **{k: (16,) for k in ("h1", "c1", "h2", "c2")}},
    )


class TestGatedRecurrentUnits(Conformance):
    model = "lstm_textgen"
    arguments = {"vocab_size": 9, "units": 24, "embedding": 8, "cell": "gru", "num_layers": 1}
    shapes = ({"tokens": (None,), "h1": (24,)}, {"logits": (None, 9), "h1": (24,)})


class TestSimpleRecurrence(Conformance):
    model = "lstm_textgen"
    arguments = {"vocab_size": 9, "units": 24, "embedding": 8, "cell": "rnn", "num_layers": 1}
    shapes = ({"tokens": (None,), "h1": (24,)}, {"logits": (None, 9), "h1": (24,)})


class TestEverythingOn(Conformance):
    model = "lstm_textgen"
    arguments = {"vocab_size": 9, "units": 16, "embedding": 8, "tied": True, "layer_norm": True, "residual": True}
    shapes = (
        {"tokens": (None,), **{k: (16,) for k in ("h1", "c1", "h2", "c2")}},
        {"logits": (None, 9), **{k: (16,) for k in ("h1", "c1", "h2", "c2")}},
    )


def lstm_pair(dtype="float32", **more):
    """Keras's layer and the zoo's, with the same random weights."""
    rng = np.random.default_rng(0)
    pair = [kind(6, return_sequences=True, return_state=True, dtype=dtype) for kind in (keras.layers.LSTM, LSTM)]
    for layer in pair:
        layer.build((3, 7, 5))
    weights = [rng.normal(0, 0.5, w.shape) for w in pair[0].get_weights()]
    for layer in pair:
        layer.set_weights(weights)
    return pair


def results(layer, *, training, graph, steps=7, rows=3, known=True):
    """Outputs, states, and gradients in inputs, states and weights, of a loss that all outputs enter.

    With `known` false a graph knows the number of rows from the states alone.
    """
    rng = np.random.default_rng(1)
    inputs = [tf.constant(rng.normal(size=s), tf.float32) for s in ((rows, steps, 5), (rows, 6), (rows, 6))]
    factors = [tf.constant(rng.normal(size=s), tf.float32) for s in ((rows, steps, 6), (rows, 6), (rows, 6))]

    def run(x, h, c):
        x = (
            x
            if known
            else tf.ensure_shape(tf.raw_ops.PlaceholderWithDefault(input=x, shape=[None] * 3), (None, None, 5))
        )
        with tf.GradientTape() as tape:
            tape.watch([x, h, c])
            outputs = layer(x, initial_state=[h, c], training=training)
            loss = sum(tf.reduce_sum(tf.cast(o, tf.float32) * f) for o, f in zip(outputs, factors, strict=True))
        return [*outputs, *tape.gradient(loss, [x, h, c, *(v.value for v in layer.trainable_variables)])]

    return [np.array(r, "float32") for r in (tf.function(run) if graph else run)(*inputs)]


@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_lstm_has_the_outputs_and_gradients_of_keras_own(training, graph):
    stock, fast = lstm_pair()
    for a, b in zip(*(results(k, training=training, graph=graph) for k in (stock, fast)), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6)


@pytest.mark.parametrize("training", [False, True])
def test_a_single_row_that_only_the_states_know_of(training):
    stock, fast = lstm_pair()
    how = {"training": training, "graph": True, "rows": 1}
    for a, b in zip(results(stock, **how), results(fast, **how, known=False), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6)


def test_one_step_is_that_of_keras_own():
    stock, fast = lstm_pair()
    for a, b in zip(*(results(k, training=True, graph=False, steps=1) for k in (stock, fast)), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6)


def test_states_keep_their_precision_under_mixed_precision():
    _, exact = lstm_pair()
    stock, fast = lstm_pair("mixed_bfloat16")
    wanted, ours, theirs = (results(k, training=True, graph=True) for k in (exact, fast, stock))
    assert fast(np.zeros((1, 2, 5), "float32"))[1].dtype == "float32"
    assert fast(np.zeros((1, 2, 5), "float32"))[0].dtype == "bfloat16"
    gaps = [[float(np.abs(a - b).max()) for a, b in zip(wanted, found, strict=True)] for found in (ours, theirs)]
    assert sum(gaps[0]) < sum(gaps[1]) and max(gaps[0]) < 0.3


@pytest.mark.parametrize("more", [{"go_backwards": True}, {"activation": "relu"}, {"recurrent_dropout": 0.5}])
def test_what_the_fast_path_does_not_do_is_left_to_keras(more):
    layer = LSTM(6, return_sequences=True, **more)
    x = np.random.default_rng(0).normal(size=(2, 4, 5)).astype("float32")
    layer(x)
    stock = layer.stock()
    stock.build(x.shape)
    stock.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(x), stock(x), atol=1e-6)


def test_weight_dropout_drops_recurrent_weights_in_training_alone():
    layer = LSTM(64, weight_dropout=0.5, return_sequences=True)
    x = np.random.default_rng(0).normal(size=(2, 5, 3)).astype("float32")
    calm = np.array(layer(x))
    np.testing.assert_array_equal(layer(x), calm)
    noisy = np.array(layer(x, training=True))
    # The first step has no state yet for the recurrent weights to work on.
    np.testing.assert_allclose(noisy[:, 0], calm[:, 0], atol=1e-6)
    assert np.abs(noisy[:, 1:] - calm[:, 1:]).max() > 0.01
    assert np.abs(noisy - np.array(layer(x, training=True))).max() > 0.01


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_a_text_read_in_two_pieces_is_the_text_read_at_once(cell):
    model = kzoo.build("lstm_textgen", vocab_size=9, units=8, embedding=4, cell=cell)
    inputs, _ = text.batch(model)
    whole = model(inputs)
    first = model({**inputs, "tokens": inputs["tokens"][:, :2]})
    state = {name: np.array(value) for name, value in first.items() if name != "logits"}
    second = model({"tokens": inputs["tokens"][:, 2:], **state})
    np.testing.assert_allclose(whole["logits"][:, 2:], second["logits"], atol=1e-6)
    for name in set(whole) - {"logits"}:
        np.testing.assert_allclose(whole[name], second[name], atol=1e-6)


def test_portable_twin_is_keras_own_and_answers_the_same(tmp_path):
    model = kzoo.build("lstm_textgen", vocab_size=9, units=8, embedding=4, dropout=0.1, weight_dropout=0.2)
    twin = portable(model)
    assert {type(layer).__module__.partition(".")[0] for layer in twin.layers} == {"keras"}
    inputs, _ = text.batch(model)
    same(model(inputs), twin(inputs), atol=1e-6)
    twin.save(tmp_path / "m.keras")
    same(twin(inputs), keras.saving.load_model(tmp_path / "m.keras")(inputs))


def test_the_article_network_has_its_parameters():
    model = kzoo.build("lstm_textgen", vocab_size=65, num_layers=1, units=512, embedding=256)
    assert model.count_params() == 65 * 256 + 4 * 512 * (256 + 512 + 1) + 512 * 65 + 65


def test_dropout_masks_of_a_whole_chunk():
    model = kzoo.build("lstm_textgen", vocab_size=9, units=8, embedding=4, dropout=0.5, variational=True)
    x = keras.ops.ones((2, 5, 8))
    dropped = np.array(model.get_layer("dropout1")(x, training=True))
    np.testing.assert_array_equal(dropped, np.repeat(dropped[:, :1], 5, 1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"vocab_size": 1}, "at least 2"),
        ({"units": 0}, "positive"),
        ({"cell": "gru", "weight_dropout": 0.1}, "for LSTM cells"),
        ({"cell": "mamba"}, "'lstm', 'gru' or 'rnn'"),
    ],
)
def test_bad_arguments_are_one_sentence(arguments, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.build("lstm_textgen", **arguments)
