"""One graph of a network for all doors of an artefact."""

import numpy as np


class Shared:
    """A network that doors call as a function of its own, so that a SavedModel holds its operations once.

    Outside a graph it is the network itself. Inside one, calls with inputs of the same shape are calls of one
    function, which TensorFlow puts in their places again when it runs them.

    Args:
        model: The network. Its attributes are this object's too; arrays, such as a detector's default boxes, are
            variables, which a SavedModel also holds once.
    """

    def __init__(self, model):
        import tensorflow as tf

        def network(inputs):
            return model(inputs, training=False)

        self._model, self._variables = model, {}
        # Autograph would rewrite Keras's Python code, which is TensorFlow operations already.
        self._function = tf.function(network, autograph=False)

    def __call__(self, inputs, training: bool = False):
        """What the network answers at inference."""
        import tensorflow as tf

        return self._model(inputs, training=False) if tf.executing_eagerly() else self._function(inputs)

    def __getattr__(self, name: str):
        value = getattr(self._model, name)
        return self._variable(name, value) if isinstance(value, np.ndarray) else value

    def _variable(self, name: str, value: np.ndarray):
        import tensorflow as tf

        if name not in self._variables:
            with tf.init_scope():
                self._variables[name] = tf.Variable(value, trainable=False, name=name)
        return self._variables[name]
