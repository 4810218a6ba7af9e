"""The kernel must do what Keras's layer does."""

import keras
import numpy as np
import pytest

from kzoo.tasks.normalization import fused

tf = pytest.importorskip("tensorflow")


def network(policy="float32", **arguments):
    keras.utils.set_random_seed(0)
    image = keras.Input((6, 5, 4))
    x = keras.layers.BatchNormalization(momentum=0.7, name="norm", dtype=policy, **arguments)(image)
    model = keras.Model(image, keras.layers.Activation("relu", dtype=policy)(x))
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 1.5, w.shape).astype("float32") for w in model.get_weights()])
    return model


def step(model, images):
    """Outputs, gradients of all that is trained and of the images, and the statistics behind a training step."""
    images = tf.constant(images)
    with tf.GradientTape() as tape:
        tape.watch(images)
        outputs = model(images, training=True)
        loss = tf.reduce_sum(tf.cast(outputs, tf.float32) ** 2 * tf.range(4.0))
    wanted = [v.value for v in model.trainable_variables]
    found = [outputs, *tape.gradient(loss, [images, *wanted]), *(v.value for v in model.non_trainable_variables)]
    return [tf.cast(v, tf.float32).numpy() for v in found]


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [({}, 1e-5), ({"scale": False}, 1e-5), ({"center": False}, 1e-5), ({"policy": "mixed_bfloat16"}, 2e-2)],
    ids=["whole", "without scale", "without shift", "bfloat16"],
)
def test_the_kernel_gives_keras_outputs_gradients_and_statistics(arguments, allowed):
    images = np.random.default_rng(0).normal(2, 3, (7, 6, 5, 4)).astype("float32")
    expected, model = step(network(**arguments), images), network(**arguments)
    with fused(model):
        found = step(model, images)
    assert len(found) == len(expected)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, atol=allowed * np.abs(a).max())


def test_only_training_is_touched_and_only_for_a_while():
    images = np.random.default_rng(0).normal(2, 3, (7, 6, 5, 4)).astype("float32")
    model = network()
    before, own = model(images, training=False), type(model.get_layer("norm")).call
    with fused(model):
        np.testing.assert_array_equal(model(images, training=False), before)
        model.get_layer("norm").trainable = False
        np.testing.assert_array_equal(model(images, training=True), before)
        ops = tf.function(lambda x: model(x, training=True)).get_concrete_function(tf.constant(images)).graph
        assert "FusedBatchNormV3" not in {o.type for o in ops.get_operations()}, "a frozen layer keeps its statistics"
    assert model.get_layer("norm").call.__func__ is own


def test_layers_that_are_others_are_left_alone():
    image = keras.Input((6, 5, 4))
    x = keras.layers.BatchNormalization(axis=1, name="rows")(image)
    x = keras.layers.LayerNormalization(name="layer")(x)
    model = keras.Model(image, keras.layers.BatchNormalization(name="vector")(keras.layers.Flatten()(x)))
    with fused(model):
        assert not any("call" in vars(layer) for layer in model.layers)
