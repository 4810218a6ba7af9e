import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.tasks import optimizers
from kzoo.tasks.control import acting, exploring
from kzoo.tasks.control.learner import Learner, targets
from kzoo.tasks.control.replay import Batch
from kzoo.tasks.control.settings import Boltzmann, Exponential, Linear, Munchausen, Train

ACTIONS = np.array([0, 1, 1], np.int32)
REWARDS = np.array([1.0, -2.0, 0.5], np.float32)
DISCOUNTS = np.array([0.9, 0.0, 0.81], np.float32)
FOLLOWING = np.array([[1.0, 3.0], [5.0, 7.0], [2.0, -1.0]], np.float32)
ONLINE = np.array([[4.0, 2.0], [0.0, 1.0], [1.0, 3.0]], np.float32)
CURRENT = np.array([[0.2, 0.1], [0.0, 0.3], [1.0, -1.0]], np.float32)


def wanted(settings):
    batch = {k: tf.constant(v) for k, v in (("actions", ACTIONS), ("rewards", REWARDS), ("discounts", DISCOUNTS))}
    return targets(batch, tf.constant(FOLLOWING), tf.constant(ONLINE), tf.constant(CURRENT), settings).numpy()


def test_plain_targets():
    np.testing.assert_allclose(wanted(Train()), [1 + 0.9 * 3, -2, 0.5 + 0.81 * 2], rtol=1e-6)


def test_double_targets_take_the_online_networks_choice():
    np.testing.assert_allclose(wanted(Train(double=True)), [1 + 0.9 * 1, -2, 0.5 + 0.81 * -1], rtol=1e-6)


def test_munchausen_targets():
    alpha, tau, lowest = 0.9, 0.5, -0.4

    def log_policy(values):
        scaled = values / tau
        return tau * (scaled - np.log(np.exp(scaled).sum(-1, keepdims=True)))

    bonus = np.clip(log_policy(CURRENT)[np.arange(3), ACTIONS], lowest, 0)
    policy = np.exp(log_policy(FOLLOWING) / tau)
    value = (policy * (FOLLOWING - log_policy(FOLLOWING))).sum(-1)
    settings = Train(munchausen=Munchausen(alpha=alpha, temperature=tau, lowest=lowest))
    assert (bonus == lowest).any() and (bonus > lowest).any()
    np.testing.assert_allclose(wanted(settings), REWARDS + alpha * bonus + DISCOUNTS * value, rtol=1e-5)


def network():
    keras.utils.set_random_seed(1)
    return kzoo.build("dqn_mlp", observation_shape=(3,), num_actions=2, hidden=(8,))


def learner(**more):
    settings = Train(**{"optimizer": {"name": "sgd", "learning_rate": 0.1}, "precision": "float32", **more})
    return Learner(network(), network(), optimizers.build(settings, 10, "float32"), settings)


def batches(steps=1, size=6):
    rng = np.random.default_rng(0)
    shape = (steps, size)
    return Batch(
        rng.normal(size=(*shape, 3)).astype("float32"),
        rng.integers(0, 2, shape).astype("int32"),
        rng.normal(size=shape).astype("float32") * 3,
        rng.normal(size=(*shape, 3)).astype("float32"),
        np.full(shape, 0.9, "float32"),
        rng.uniform(0.2, 1, shape).astype("float32"),
        np.zeros(shape, np.int64),
    )


@pytest.mark.parametrize("loss", ["huber", "mse"])
def test_a_gradient_step_is_that_of_keras_own_loss(loss):
    one, reference, data = learner(loss=loss), network(), batches()
    found, errors = one.learn(data, 0)
    with tf.GradientTape() as tape:
        target = data.rewards[0] + 0.9 * tf.reduce_max(reference(data.following[0]), -1)
        values = tf.gather(reference(data.observations[0]), data.actions[0], axis=1, batch_dims=1)
        kind = keras.losses.Huber if loss == "huber" else keras.losses.MeanSquaredError
        each = [kind()([t], [v]) for t, v in zip(tf.stop_gradient(target), values, strict=True)]
        expected = tf.reduce_mean(data.weights[0] * tf.stack(each))
    weights = reference.trainable_variables
    gradients = tape.gradient(expected, [w.value for w in weights])
    assert found == pytest.approx(float(expected), rel=1e-5)
    np.testing.assert_allclose(errors[0], np.abs(target - values), rtol=1e-5)
    for ours, old, gradient in zip(one.online.trainable_variables, weights, gradients, strict=True):
        np.testing.assert_allclose(ours, old - 0.1 * gradient, rtol=1e-4, atol=1e-6)


# With 4 steps between two copies, pairs of these 6 steps share the target network's answers; with 3, all of a copy's.
@pytest.mark.parametrize(
    "changes",
    [{"target_every": 3}, {"double": True}, {"munchausen": {}}, {"target_every": None, "target_rate": 0.3}],
    ids=["plain", "double", "munchausen", "polyak"],
)
def test_many_steps_in_one_call_are_the_steps_one_by_one(changes):
    settings = {"target_every": 4, **changes}
    together, apart, data = learner(**settings), learner(**settings), batches(6)
    together.learn(data, 6)
    for step in range(6):
        apart.learn(Batch(**{k: v[step : step + 1] for k, v in vars(data).items()}), 6 + step)
    for a, b in zip(together.variables, apart.variables, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_the_target_network_is_copied_every_so_many_steps():
    one = learner(target_every=3)
    first = [np.array(v) for v in one.target.variables]
    one.learn(batches(2), 0)
    assert all(np.array_equal(a, b) for a, b in zip(first, one.target.variables, strict=True))
    one.learn(batches(1), 2)
    assert all(np.array_equal(a, b) for a, b in zip(one.online.variables, one.target.variables, strict=True))


def test_polyak_averaging_mixes_the_online_network_in():
    one = learner(target_every=None, target_rate=0.25)
    before = [np.array(v) for v in one.target.variables]
    one.learn(batches(1), 0)
    for old, online, target in zip(before, one.online.variables, one.target.variables, strict=True):
        np.testing.assert_allclose(target, 0.75 * old + 0.25 * np.array(online), rtol=1e-5, atol=1e-7)


def test_averages_are_judged_and_then_put_aside():
    one, seen = learner(ema=0.75), []
    with one.averaged() as model:
        assert model is one.online and np.abs(model.get_weights()[0]).max() > 0, "before the first step there are none"
    for step in range(3):
        one.learn(batches(1), step)
        seen.append(one.online.get_weights())
    with one.averaged() as model:
        averages = model.get_weights()
    for average, first, second, third, now in zip(averages, *seen, one.online.get_weights(), strict=True):
        expected = 0.75 * (0.75 * first + 0.25 * second) + 0.25 * third
        np.testing.assert_allclose(average, expected, rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(now, third)


@pytest.mark.parametrize(
    ("settings", "at", "level"),
    [
        (Linear(name="linear", initial=1.0, final=0.1, share=0.5), 0.0, 1.0),
        (Linear(name="linear", initial=1.0, final=0.1, share=0.5), 0.25, 0.55),
        (Linear(name="linear", initial=1.0, final=0.1, share=0.5), 0.9, 0.1),
        (Exponential(name="exponential", initial=1.0, final=0.1, share=0.2), 0.2, 0.1 + 0.9 / np.e),
        (Boltzmann(name="boltzmann", initial=2.0, final=1.0, share=1.0), 0.5, 1.5),
    ],
)
def test_exploration_falls_as_its_schedule_says(settings, at, level):
    assert exploring.level(settings, at) == pytest.approx(level)


def test_actions_are_random_with_the_levels_probability():
    rng, seen = np.random.default_rng(0), np.zeros((20_000, 1))

    def values(observations):
        return np.tile([0.0, 1.0, 0.5, 0.0], (len(observations), 1))

    def shares(settings, step=0):
        choose = exploring.Chooser(settings, np.array([0.0, 1.0]), 20_000, 4, rng)
        return np.bincount(choose(step, values, seen), minlength=4) / 20_000

    half = Linear(name="linear", initial=0.5, final=0.0)
    np.testing.assert_allclose(shares(half), [0.125, 0.625, 0.125, 0.125], atol=0.01)
    assert shares(half, step=1).tolist() == [0, 1, 0, 0]
    assert np.ptp(shares(Linear(name="linear", initial=1.0))) < 0.02
    softmax = np.exp([0.0, 2.0, 1.0, 0.0])
    warm = Boltzmann(name="boltzmann", initial=0.5, final=0.5)
    np.testing.assert_allclose(shares(warm), softmax / softmax.sum(), atol=0.01)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("dqn_mlp", {"observation_shape": (2, 3), "hidden": (16, 8), "dueling": True, "activation": "tanh"}),
        ("dqn_mlp", {"observation_shape": (6,), "activation": "gelu"}),
        ("dqn_nature_cnn", {"observation_shape": (36, 36, 1)}),
    ],
)
def test_fast_answers_are_the_networks(name, arguments):
    model = kzoo.build(name, **arguments)
    seen = np.random.default_rng(0).uniform(0, 1, (5, *arguments["observation_shape"])).astype("float32")
    np.testing.assert_allclose(acting.values_of(model)(seen), model(seen), rtol=1e-4, atol=1e-5)


def test_a_layer_without_a_bias_is_answered_all_the_same():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False)])
    seen = np.random.default_rng(0).uniform(0, 1, (5, 3)).astype("float32")
    np.testing.assert_allclose(acting.values_of(model)(seen), model(seen), rtol=1e-4, atol=1e-5)


def test_fast_answers_follow_the_gradient_steps():
    one, data = learner(), batches(2)
    values, seen = acting.values_of(one.online), data.observations[0]
    before = values(seen)
    one.learn(data, 0)
    np.testing.assert_array_equal(values(seen), before)
    values.refresh(one.flat)
    np.testing.assert_allclose(values(seen), one.online(seen), rtol=1e-4, atol=1e-5)
    assert np.abs(values(seen) - before).max() > 1e-4
