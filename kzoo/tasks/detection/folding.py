"""A detector whose batch normalisation is folded into its convolutions: the same answers with fewer operations."""

import keras
import numpy as np

from kzoo.build import build


def folded(model, name: str, arguments: dict):
    """A network that answers as a trained one does, without its normalisation layers.

    Behind the training, normalisation is one factor and one shift for each channel, which a convolution's kernel and
    bias can hold (Jacob et al. 2017, arXiv 1712.05877, section 3.2).

    Args:
        model: A `vgg16_detector` with batch normalisation.
        name: The name that its builder has in the zoo.
        arguments: What it was built with.

    Returns:
        A float32 network, or the model itself if it has nothing to fold: no normalisation, a quantised layer, or
        another runtime than Keras behind it.
    """
    if not arguments.get("batch_norm") or not isinstance(model, keras.Model):
        return model
    if any(getattr(layer, "quantization_mode", None) for layer in model.layers):
        return model
    plain = build(name, **{**arguments, "batch_norm": False, "dtype_policy": "float32"})
    plain.default_boxes = model.default_boxes
    for layer in plain.layers:
        theirs = model.get_layer(layer.name)
        if layer.weights and len(theirs.weights) == len(layer.weights):
            layer.set_weights(theirs.get_weights())
        elif layer.weights:
            norm = model.get_layer(f"{layer.name.removesuffix('_conv')}_norm")
            scale, shift, mean, variance = (np.asarray(w, np.float64) for w in norm.get_weights())
            factor = scale / np.sqrt(variance + norm.epsilon)
            (kernel,) = theirs.get_weights()
            layer.set_weights([kernel * factor.astype(np.float32), (shift - mean * factor).astype(np.float32)])
    return plain
