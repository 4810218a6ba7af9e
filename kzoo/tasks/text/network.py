"""What the text models of the zoo have in common.

A network maps ``tokens``, int32 (batch, time), and its state, tensors by name with the batch first, to ``logits``,
float32 (batch, time, vocabulary), and the new state under the same names. A state of zeros has read nothing. An axis of
a state whose length the network leaves open starts with no places and grows as tokens are read.
"""

import tensorflow as tf


def state_specs(network) -> dict[str, tuple[tuple, str]]:
    """Shape without the batch and dtype of each tensor of the state, by name, in the order of their names."""
    return {t.name: (tuple(t.shape[1:]), t.dtype) for t in network.inputs if t.name != "tokens"}


def empty_state(network, batch) -> dict[str, tf.Tensor]:
    """The state that has read nothing, for a number of rows."""
    specs = state_specs(network).items()
    return {name: tf.zeros((batch, *(size or 0 for size in shape)), dtype) for name, (shape, dtype) in specs}


def grows(network) -> bool:
    """Whether the state has an axis of open length."""
    return any(None in shape for shape, _ in state_specs(network).values())


def invariants(network) -> dict[str, tf.TensorShape]:
    """What stays the same of the state's shapes while tokens are read."""
    return {name: tf.TensorShape([None, *shape]) for name, (shape, _) in state_specs(network).items()}


def forget(state: dict, rows) -> dict:
    """The state with some rows empty.

    Args:
        state: The state.
        rows: bool (batch,), which ones.
    """
    return {name: choose(rows, tf.zeros_like(value), value) for name, value in state.items()}


def choose(rows, first, second):
    """Rows of the first tensor where `rows` is true, of the second elsewhere."""
    return tf.where(tf.reshape(rows, [-1] + [1] * (len(first.shape) - 1)), first, second)


def read(network, tokens, state: dict, training: bool = False) -> tuple[tf.Tensor, dict]:
    """Logits after each token, (batch, time, vocabulary), and the new state."""
    outputs = dict(network({"tokens": tokens, **state}, training=training))
    return outputs.pop("logits"), outputs
