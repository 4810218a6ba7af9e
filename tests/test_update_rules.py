import keras
import numpy as np
import pytest

import kzoo
from kzoo.tasks import optimizers, update_rules


def network():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((3,)), keras.layers.Dense(2, name="first"), keras.layers.Dense(1, name="last")]
    )
    model.build()
    return model


def settings(*overrides):
    return kzoo.load_recipe(
        "cnn_classifier/digits", ["train.ema=null", "train.schedule={name: constant}", *overrides]
    ).train


def test_a_multiplier_scales_the_step_and_not_the_decay():
    given = settings(
        "train.optimizer={name: sgd, learning_rate: 0.1, weight_decay: 0.5, multipliers: {first/bias: 8, last: 0.5}}"
    )
    model, optimizer = network(), optimizers.build(given, 10, "float32")
    before = [np.array(v) for v in model.trainable_variables]
    gradients = [np.full(v.shape, 0.25, np.float32) for v in before]
    optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], model.trainable_variables)
    for variable, old, factor, decay in zip(
        model.trainable_variables, before, (1, 8, 0.5, 0.5), (0.5, 0, 0.5, 0), strict=True
    ):
        expected = old * (1 - 0.1 * decay) - 0.1 * factor * 0.25
        np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-7, err_msg=variable.path)


def test_lookahead_is_that_of_its_formula():
    kind = update_rules.with_lookahead(keras.optimizers.SGD, every=3, decay=0.8, ramp=2.0, total_steps=12)
    variable = keras.Variable(np.array([1.0, -2.0], np.float32))
    optimizer = kind(0.1)
    weights = slow = np.array([1.0, -2.0])
    for step in range(1, 13):
        gradient = np.array([step, -1.0])
        optimizer.apply([keras.ops.convert_to_tensor(gradient.astype(np.float32))], [variable])
        weights = weights - 0.1 * gradient
        if step % 3 == 0:
            share = 0.8 * (step / 12) ** 2
            slow = share * slow + (1 - share) * weights
            weights = slow
        np.testing.assert_allclose(variable, weights, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(update_rules.averages(optimizer)[0], slow, rtol=1e-5)


def test_before_the_first_pull_lookahead_s_average_is_the_start():
    kind = update_rules.with_lookahead(keras.optimizers.SGD, every=50, decay=0.8, ramp=3.0, total_steps=100)
    variable, optimizer = keras.Variable(np.array([1.0, -2.0], np.float32)), kind(0.1)
    optimizer.apply([keras.ops.ones(2)], [variable])
    np.testing.assert_array_equal(update_rules.averages(optimizer)[0], [1.0, -2.0])


def test_lookahead_inside_a_compiled_fit_with_loss_scaling():
    given = settings(
        "train.lookahead={every: 2, decay: 0.9, ramp: 0}", "train.optimizer={name: sgd, learning_rate: 0.1}"
    )
    model = network()
    model.compile(optimizers.build(given, 8, "mixed_float16"), "mse", jit_compile=True)
    rng = np.random.default_rng(0)
    model.fit(rng.normal(size=(32, 3)), rng.normal(size=(32, 1)), batch_size=4, verbose=0)
    fast = [np.array(v) for v in model.trainable_variables]
    update_rules.put_averages(model.optimizer)
    # The eighth step pulls, so that both are the same; and the slow weights are not those that it started with.
    for variable, value in zip(model.trainable_variables, fast, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert any(np.abs(a - np.array(b)).max() > 1e-3 for a, b in zip(fast, network().trainable_variables, strict=True))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.optimizer.multipliers={'(': 2}", "no regular expression"),
        ("train.optimizer.multipliers={bias: 0}", "greater than 0"),
        ("train.lookahead={evry: 3}", "unknown key 'evry' in train.lookahead.*every"),
    ],
)
def test_bad_settings_are_one_sentence(override, message):
    with pytest.raises(kzoo.RequestError, match=message):
        settings(override)


def test_ema_and_lookahead_exclude_each_other():
    with pytest.raises(kzoo.RequestError, match="only one of ema and lookahead"):
        kzoo.load_recipe("cnn_classifier/digits", ["train.ema=0.9", "train.lookahead={}"])


def test_muon_treats_a_convolution_as_the_matrix_of_its_windows():
    kernel = keras.Variable(np.random.default_rng(0).normal(size=(3, 3, 2, 5)).astype(np.float32), name="kernel")
    matrix = keras.Variable(np.array(kernel).reshape(18, 5), name="kernel")
    # Keras's own, which knows matrices only, is the reference.
    ours, keras_own = update_rules.Muon(0.1, weight_decay=0.1), keras.optimizers.Muon(0.1, weight_decay=0.1)
    rng = np.random.default_rng(1)
    for _ in range(3):
        gradient = rng.normal(size=(18, 5)).astype(np.float32)
        ours.apply([keras.ops.convert_to_tensor(gradient.reshape(3, 3, 2, 5))], [kernel])
        keras_own.apply([keras.ops.convert_to_tensor(gradient)], [matrix])
    np.testing.assert_allclose(np.array(kernel).reshape(18, 5), matrix, rtol=1e-5, atol=1e-6)


def test_muon_leaves_vectors_depthwise_kernels_and_excluded_layers_to_adamw():
    shapes = {"bias": (4,), "depthwise": (3, 3, 6, 1), "embedding": (7, 3), "logits": (6, 4)}
    variables = [keras.Variable(np.ones(shape, np.float32), name=name) for name, shape in shapes.items()]
    plain = {"adam_weight_decay": None, "weight_decay": None}
    ours = update_rules.Muon(0.1, exclude_layers=["logits"], **plain)
    adam = keras.optimizers.Adam(0.1)
    others = [keras.Variable(np.array(v), name=v.name) for v in variables]
    rng = np.random.default_rng(0)
    for _ in range(2):
        gradients = [rng.normal(size=v.shape).astype(np.float32) for v in variables]
        for optimizer, targets in ((ours, variables), (adam, others)):
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], targets)
    for variable, other in zip(variables, others, strict=True):
        np.testing.assert_allclose(variable, other, rtol=1e-4, atol=1e-5, err_msg=variable.name)


def test_a_recipe_trains_convolutions_with_muon(tmp_path):
    changed = {
        "arguments.filters": [8, 16],
        "train.epochs": 3,
        "train.ema": None,
        "train.optimizer": {"name": "muon", "learning_rate": 0.02, "arguments": {"exclude_layers": ["logits"]}},
    }
    run = kzoo.train(kzoo.load_recipe("cnn_classifier/digits", changed), out=tmp_path / "run")
    assert run.summary["test"]["accuracy"] > 0.5


@pytest.mark.parametrize(
    "arguments", [{}, {"amsgrad": True}, {"global_clipnorm": 0.1, "weight_decay": 0.01, "epsilon": 1e-3}]
)
def test_fused_adam_is_adam(arguments):
    shapes = [(4, 3), (3,)]

    def end(kind):
        rng, weights = np.random.default_rng(0), [keras.Variable(np.ones(shape)) for shape in shapes]
        optimizer = kind(learning_rate=0.05, **arguments)
        optimizer.build(weights)
        for _ in range(20):
            optimizer.apply([keras.ops.convert_to_tensor(rng.normal(size=s), "float32") for s in shapes], weights)
        return [np.array(v) for v in (*weights, *optimizer.variables)]

    for ours, keras_own in zip(end(update_rules.FusedAdam), end(keras.optimizers.Adam), strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-4, atol=1e-6)
