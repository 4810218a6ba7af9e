"""Truncated backpropagation through time by Keras's own `fit`: the state of one step is where the next one starts."""

import math

import keras
import tensorflow as tf

from kzoo.tasks.text import network as networks


class Trainer(keras.Model):
    """A text network that trains on consecutive chunks and is validated on a text that is read once.

    It shares layers and weights with the network. Its states are no weights: the training's state belongs to a
    checkpoint (`carried`), that of the validation starts anew each time.

    Batches are (tokens, resets) for training and (inputs, targets, counted, resets) for validation; see
    `kzoo.data.text.batches` and `kzoo.tasks.text.scoring`.
    """

    def __init__(self, network, batch_size: int, validation_rows: int | None):
        """Make the states.

        Args:
            network: See `kzoo.tasks.text.network`.
            batch_size: Rows of a training batch.
            validation_rows: Rows of a validation batch; None where there is no validation.
        """
        super().__init__(network.input, network.output, name=network.name)
        rows = {"training": batch_size, "validation": validation_rows}
        # What grows is not carried from chunk to chunk: each starts with an empty state.
        self.empties = networks.grows(network)
        # Behind a plain object, where Keras does not take them for weights.
        self.states = _Held({k: _variables(network, n) for k, n in rows.items() if n and not self.empties})
        self.means = _Held({k: keras.metrics.Mean(name=k) for k in ("loss", "bits")})

    @property
    def carried(self) -> list:
        """Variables that a training goes on from, beside weights and optimiser."""
        return list(self.states.of.get("training", {}).values())

    @property
    def metrics(self):
        """Mean loss of a token, in nats and in bits."""
        return list(self.means.of.values())

    def train_step(self, data):
        """One step of truncated backpropagation."""
        tokens, resets = data
        state = self._state("training", resets)
        with tf.GradientTape() as tape:
            logits, new = networks.read(self, tokens[:, :-1], state, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tokens[:, 1:], logits)
            loss = tf.reduce_mean(losses) + sum(self.losses)
            scaled = self.optimizer.scale_loss(loss)
        weights = self.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(scaled, weights), weights, strict=True))
        self._keep("training", new)
        return self._count(losses, tf.ones_like(losses))

    def test_step(self, data):
        """Judge one chunk of the validation text."""
        inputs, targets, counted, resets = data
        logits, new = networks.read(self, inputs, self._state("validation", resets))
        self._keep("validation", new)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        return self._count(losses, tf.cast(counted, losses.dtype))

    def _state(self, kind: str, resets) -> dict:
        if self.empties:
            return networks.empty_state(self, tf.shape(resets)[0])
        return networks.forget({name: v.value for name, v in self.states.of[kind].items()}, resets)

    def _keep(self, kind: str, new: dict) -> None:
        for name, variable in self.states.of.get(kind, {}).items():
            variable.assign(new[name])

    def _count(self, losses, weights) -> dict:
        self.means.of["loss"].update_state(losses, weights)
        self.means.of["bits"].update_state(losses / math.log(2), weights)
        return {name: mean.result() for name, mean in self.means.of.items()}


class _Held:
    """Keeps what Keras would track, were it an attribute itself."""

    def __init__(self, of: dict):
        self.of = of


def _variables(network, rows: int) -> dict:
    """A state of zeros as variables."""
    return {
        name: keras.Variable(tf.zeros((rows, *shape), dtype), trainable=False, name=name)
        for name, (shape, dtype) in networks.state_specs(network).items()
    }
