"""Batch normalisation by one kernel of TensorFlow's while a network trains.

Keras writes it as a dozen operations, each of which reads and writes the whole feature map, in float32 whatever the
network's precision. The kernel needs a quarter of the time; it sums in another order, so that results differ by
rounding.
"""

import contextlib
import functools
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def fused(model: keras.Model) -> Iterator[None]:
    """Let the kernel normalise the training batches of a model's feature maps.

    The layers stay what they are, with their weights, and are Keras's own again behind it; a function that was traced
    inside keeps the kernel. Nothing changes under another backend than TensorFlow.

    Args:
        model: Its layers of exactly Keras's `BatchNormalization` over the channels of (batch, height, width, channels)
            are meant, but for synchronised and renormalised ones.
    """
    layers = [layer for layer in model.layers if _fits(layer)] if keras.backend.backend() == "tensorflow" else []
    for layer in layers:
        layer.call = functools.partial(_call, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def _fits(layer) -> bool:
    if type(layer) is not keras.layers.BatchNormalization or layer.synchronized or layer.renorm:
        return False
    shape = layer.input.shape
    return len(shape) == 4 and layer.axis in (-1, 3)


def _call(layer, inputs, training=None, mask=None):
    """`BatchNormalization.call`, in training with the kernel."""
    if not (training and layer.trainable) or mask is not None:
        return type(layer).call(layer, inputs, training=training, mask=mask)
    import tensorflow as tf

    channels = inputs.shape[-1]
    scale = layer.gamma if layer.scale else tf.ones(channels)
    shift = layer.beta if layer.center else tf.zeros(channels)
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=inputs,
        scale=tf.convert_to_tensor(scale),
        offset=tf.convert_to_tensor(shift),
        mean=tf.zeros(0),
        variance=tf.zeros(0),
        epsilon=layer.epsilon,
        is_training=True,
    )
    # The kernel estimates the variance without bias; Keras keeps that of the batch.
    count = tf.cast(tf.size(inputs) // channels, tf.float32)
    for kept, found in ((layer.moving_mean, mean), (layer.moving_variance, variance * (count - 1) / count)):
        kept.assign(kept * layer.momentum + found * (1 - layer.momentum))
    return outputs
