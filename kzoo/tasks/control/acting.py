"""Fast answers of small Q-networks: a call into TensorFlow costs more than their arithmetic."""

from collections.abc import Callable

import keras
import numpy as np

_ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
}


def values_of(model) -> Callable[[np.ndarray], np.ndarray]:
    """A function from observations to Q-values with the weights that the model has now.

    A network of fully connected layers is computed by NumPy, any other by a compiled function.
    """
    layers = model.layers
    if all(_plain(layer) for layer in layers):
        return _numpy(model)
    return _compiled(model)


def _plain(layer) -> bool:
    if isinstance(layer, keras.layers.Dense):
        return getattr(layer.activation, "__name__", "") in _ACTIVATIONS
    kinds = ("InputLayer", "Flatten", "Reshape", "GlobalAveragePooling1D", "Subtract", "Add")
    return type(layer).__name__ in kinds


def _numpy(model) -> Callable[[np.ndarray], np.ndarray]:
    steps = []
    for layer in model.layers[1:]:
        sources = [t._keras_history.operation.name for t in _tensors(layer.input)]
        steps.append((layer.name, sources, _function(layer)))
    first = model.layers[0].name

    def values(observations: np.ndarray) -> np.ndarray:
        found = {first: np.asarray(observations, np.float32)}
        for name, sources, function in steps:
            found[name] = function(*(found[s] for s in sources))
        return found[name]

    return values


def _function(layer):
    kind = type(layer).__name__
    if kind == "Dense":
        kernel, bias = (np.array(w) for w in (layer.kernel, layer.bias))
        activate = _ACTIVATIONS[layer.activation.__name__]
        return lambda x: activate(x @ kernel + bias)
    if kind == "Flatten":
        return lambda x: x.reshape(len(x), -1)
    if kind == "Reshape":
        return lambda x: x.reshape(len(x), *layer.target_shape)
    if kind == "GlobalAveragePooling1D":
        return lambda x: x.mean(1)
    return (lambda a, b: a - b) if kind == "Subtract" else (lambda a, b: a + b)


def _tensors(ends) -> list:
    return list(ends) if isinstance(ends, list | tuple) else [ends]


def _compiled(model) -> Callable[[np.ndarray], np.ndarray]:
    import tensorflow as tf

    if not hasattr(model, "kzoo_values"):
        model.kzoo_values = tf.function(
            lambda seen: model(tf.cast(seen, tf.float32), training=False), reduce_retracing=True
        )
    return lambda observations: model.kzoo_values(tf.constant(observations)).numpy()
