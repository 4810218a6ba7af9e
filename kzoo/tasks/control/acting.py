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
    """A function from observations to Q-values; it knows of new weights of the model once its `refresh` was called.

    A network of fully connected layers is computed by NumPy, any other by a compiled function.
    """
    return Plain(model) if is_plain(model) else Compiled(model)


def is_plain(model) -> bool:
    """Whether the network is of layers that `Plain` computes."""
    return all(_plain(layer) for layer in model.layers)


def _plain(layer) -> bool:
    if isinstance(layer, keras.layers.Dense):
        return layer.use_bias and getattr(layer.activation, "__name__", "") in _ACTIVATIONS
    kinds = ("InputLayer", "Flatten", "Reshape", "GlobalAveragePooling1D", "Subtract", "Add")
    return type(layer).__name__ in kinds


class Plain:
    """A network of fully connected layers, computed by NumPy with copies of the weights."""

    def __init__(self, model):
        """Take the weights that the model has now."""
        self.model, self.weights, self.steps = model, [], []
        self.first = model.layers[0].name
        for layer in model.layers[1:]:
            sources = [t._keras_history.operation.name for t in _tensors(layer.input)]
            self.steps.append((layer.name, sources, self._function(layer)))
        self.refresh()

    def refresh(self, flat: np.ndarray | None = None) -> None:
        """Take new weights: the model's own, or all of them flat one behind the other, as in ``model.weights``."""
        if flat is None:
            self.weights[:] = [np.array(w) for w in self.model.weights]
            return
        at = 0
        for number, known in enumerate(self.weights):
            self.weights[number] = flat[at : at + known.size].reshape(known.shape)
            at += known.size

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Q-values, (batch, actions)."""
        found = {self.first: np.asarray(observations, np.float32)}
        for name, sources, function in self.steps:
            found[name] = function(*[found[s] for s in sources])
        return found[name]

    def _function(self, layer) -> Callable:
        kind, weights = type(layer).__name__, self.weights
        if kind == "Dense":
            kernel, bias = (_place(w, self.model.weights) for w in (layer.kernel, layer.bias))
            activate = _ACTIVATIONS[layer.activation.__name__]
            return lambda x: activate(x @ weights[kernel] + weights[bias])
        if kind == "Flatten":
            return lambda x: x.reshape(len(x), -1)
        if kind == "Reshape":
            return lambda x: x.reshape(len(x), *layer.target_shape)
        if kind == "GlobalAveragePooling1D":
            return lambda x: x.mean(1)
        return (lambda a, b: a - b) if kind == "Subtract" else (lambda a, b: a + b)


class Compiled:
    """Any network, by a compiled function of its own variables."""

    def __init__(self, model):
        """Compile once for each model."""
        import tensorflow as tf

        if not hasattr(model, "kzoo_values"):
            model.kzoo_values = tf.function(
                lambda seen: model(tf.cast(seen, tf.float32), training=False), reduce_retracing=True, autograph=False
            )
        self.values = model.kzoo_values

    def refresh(self, flat: np.ndarray | None = None) -> None:
        """Nothing: the function reads the model's variables."""

    def __call__(self, observations: np.ndarray) -> np.ndarray:
        """Q-values, (batch, actions)."""
        return self.values(observations).numpy()


def _place(variable, variables) -> int:
    return next(i for i, v in enumerate(variables) if v is variable)


def _tensors(ends) -> list:
    return list(ends) if isinstance(ends, list | tuple) else [ends]
