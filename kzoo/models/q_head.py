"""The end of every Q-network: a hidden layer and the actions' values, dueling or not."""

import keras


def q_head(x, num_actions: int, width: int, activation: str, dueling: bool, dtype_policy: str):
    """From features to ``q_values``, float32 (batch, num_actions).

    Dueling: ``Q = V + A - mean(A)`` (Wang et al. 2016, arXiv 1511.06581, eq. 9), of two hidden layers of that width.
    """
    layers = keras.layers

    def hidden(name):
        return layers.Dense(width, activation=activation, dtype=dtype_policy, name=name)(x)

    if not dueling:
        return layers.Dense(num_actions, dtype="float32", name="q_values")(hidden("hidden"))
    value = layers.Dense(1, dtype="float32", name="value")(hidden("value_hidden"))
    advantage = layers.Dense(num_actions, dtype="float32", name="advantage")(hidden("advantage_hidden"))
    # The mean as layers of Keras: a custom layer would tie .h5 and .keras files to this package.
    each = layers.Reshape((num_actions, 1), dtype="float32", name="advantage_each")(advantage)
    mean = layers.GlobalAveragePooling1D(dtype="float32", name="advantage_mean")(each)
    centred = layers.Subtract(dtype="float32", name="advantage_centred")([advantage, mean])
    return layers.Add(dtype="float32", name="q_values")([value, centred])
