import math

import keras
import numpy as np
import pytest

import kzoo
from kzoo.tasks import optimizers


def settings(*overrides):
    return kzoo.load_recipe("cnn_classifier/digits", ["train.ema=null", *overrides]).train


def rates(steps, *overrides, steps_per_epoch=10):
    schedule = optimizers._schedule(settings("train.optimizer.learning_rate=0.5", *overrides), steps_per_epoch)
    return [float(schedule(s)) for s in steps]


def test_cosine_with_warm_up():
    found = rates(
        [0, 5, 10, 55, 100, 120], "train.epochs=10", "train.schedule={name: cosine, warmup_epochs: 1, final: 0.1}"
    )
    middle = 0.5 * (1 + (0.1 - 1) * (1 - math.cos(math.pi * 0.5)) / 2)
    np.testing.assert_allclose(found, [0, 0.25, 0.5, middle, 0.05, 0.05], rtol=1e-5)


def test_one_cycle_along_lines():
    found = rates([0, 10, 20, 60, 100], "train.epochs=10", "train.schedule={name: one_cycle, peak: 0.2, initial: 0.1}")
    np.testing.assert_allclose(found, [0.05, 0.275, 0.5, 0.25, 0], rtol=1e-5, atol=1e-7)


def test_piecewise_falls_at_its_boundaries():
    found = rates([0, 19, 20, 39, 40], "train.schedule={name: piecewise, boundaries: [2, 4], factor: 0.1}")
    np.testing.assert_allclose(found, [0.5, 0.5, 0.05, 0.05, 0.005], rtol=1e-5)


def test_constant_with_warm_up_reaches_its_peak_and_stays():
    found = rates([0, 4, 9, 10, 500], "train.schedule={name: constant, warmup_epochs: 1}")
    np.testing.assert_allclose(found, [0.05, 0.25, 0.5, 0.5, 0.5], rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "rmsprop", "lion", "nadam"])
def test_optimizers_of_keras_by_name(name):
    given = settings(f"train.optimizer={{name: {name}, learning_rate: 0.01}}", "train.schedule={name: constant}")
    built = optimizers.build(given, 10, "float32")
    assert type(built).__name__.lower() == name and optimizers.learning_rate(built) == pytest.approx(0.01)


def test_arguments_reach_the_optimizer():
    given = settings(
        "train.optimizer={name: sgd, momentum: 0.8, nesterov: true, arguments: {gradient_accumulation_steps: 2}}",
        "train.gradient_clip={global_norm: 3.0}",
        "train.ema=0.5",
    )
    built = optimizers.build(given, 10, "float32")
    assert (built.momentum, built.nesterov, built.global_clipnorm) == (0.8, True, 3.0)
    assert (built.use_ema, built.ema_momentum, built.gradient_accumulation_steps) == (True, 0.5, 2)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ("{name: adamm}", "no optimizer 'adamm'; did you mean 'adam'"),
        ("{name: adam, nesterov: true}", "adam of Keras has no argument 'nesterov'"),
        ("{name: sgd, arguments: {momentun: 1}}", "no argument 'momentun'; did you mean 'momentum'"),
    ],
)
def test_what_keras_does_not_have_is_one_sentence(optimizer, message):
    with pytest.raises(kzoo.RequestError, match=message):
        optimizers.check(settings(f"train.optimizer={optimizer}"))


@pytest.mark.parametrize("arguments", ["{use_ema: true, ema_momentum: 7}", "{ema_momentum: [1], use_ema: true}"])
def test_values_that_keras_refuses_are_one_sentence(arguments):
    with pytest.raises(kzoo.RequestError, match="train.optimizer: sgd of Keras does not take these arguments: "):
        optimizers.check(settings(f"train.optimizer={{name: sgd, arguments: {arguments}}}"))


def test_float16_scales_the_loss_and_others_do_not():
    assert isinstance(optimizers.build(settings(), 10, "mixed_float16"), keras.optimizers.LossScaleOptimizer)
    assert not isinstance(optimizers.build(settings(), 10, "mixed_bfloat16"), keras.optimizers.LossScaleOptimizer)


def test_weight_decay_spares_biases_and_normalisation():
    model = kzoo.build("cnn_classifier", input_shape=(8, 8, 1), filters=(4,), num_classes=2)
    chosen = "train.optimizer={name: sgd, learning_rate: 0.1, weight_decay: 0.5}"
    built = optimizers.build(settings(chosen, "train.schedule={name: constant}"), 10, "float32")
    model.get_layer("logits").bias.assign([1.0, 1.0])
    before = [w.numpy() for w in model.trainable_variables]
    built.build(model.trainable_variables)
    built.apply([keras.ops.zeros(w.shape) for w in model.trainable_variables])
    for weight, old in zip(model.trainable_variables, before, strict=True):
        factor = 0.95 if weight.name == "kernel" else 1.0
        np.testing.assert_allclose(weight.numpy(), factor * old, rtol=1e-6)


@pytest.mark.parametrize(
    ("chosen", "kernel", "column", "excluded"),
    [
        # Keras's own decay of AdamW and of both kinds of Muon's weights is 0.004.
        ("{name: adamw}", 0.004, 0.004, 0.0),
        ("{name: adamw, decay_excludes: []}", 0.004, 0.004, 0.004),
        ("{name: adamw, decay_excludes: [b.as]}", 0.004, 0.004, 0.004),
        ("{name: muon}", 0.004, 0.004, 0.0),
        ("{name: muon, weight_decay: 0.5}", 0.5, 0.5, 0.0),
        ("{name: muon, weight_decay: 0.0, decay_excludes: []}", 0.0, 0.0, 0.0),
        ("{name: muon, weight_decay: 0.5, arguments: {adam_weight_decay: 0.25}}", 0.5, 0.25, 0.0),
    ],
)
def test_weight_decay_is_as_the_recipe_says_under_keras_defaults_too(chosen, kernel, column, excluded):
    # A matrix for Muon, one of a single column, which Muon leaves to AdamW, and a bias.
    variables = [
        keras.Variable(np.ones((3, 2), "float32"), name="kernel"),
        keras.Variable(np.ones((3, 1), "float32"), name="column"),
        keras.Variable(np.ones((2,), "float32"), name="bias"),
    ]
    given = settings(
        f"train.optimizer={chosen}", "train.optimizer.learning_rate=0.1", "train.schedule={name: constant}"
    )
    built = optimizers.build(given, 10, "float32")
    built.build(variables)
    built.apply([keras.ops.zeros(v.shape) for v in variables])
    for variable, decay in zip(variables, (kernel, column, excluded), strict=True):
        np.testing.assert_allclose(variable.numpy(), 1 - 0.1 * decay, rtol=1e-6, err_msg=variable.name)
