"""Writing: token after token in one compiled loop."""

from dataclasses import dataclass, fields

import tensorflow as tf

from kzoo.tasks.text import network as networks
from kzoo.tasks.text.settings import RANGES

# Tokens that are written at once, with the noise for all of them drawn before.
BLOCK = 64
# A temperature below is 0: logits divided by it may be no float32, and its noise would be less than their last bit.
_COLDEST = 1e-6


@dataclass(frozen=True)
class Choice:
    """How the next token is chosen from the logits; each can be a number or a scalar tensor.

    `kzoo.tasks.text.settings.RANGES` says what each takes.

    Attributes:
        temperature: What the logits are divided by; 0 always takes the most probable token.
        top_k: Only the k most probable tokens may be chosen (Fan et al. 2018, arXiv 1805.04833); 0 for all.
        top_p: Only the most probable ones that together have this probability (nucleus sampling: Holtzman et al. 2019,
            arXiv 1904.09751).
        min_p: Only tokens of at least this share of the most probable one's probability (Nguyen et al. 2024, arXiv
            2407.01082).
        repetition_penalty: Logits of tokens that were there already are divided by it where they are positive and
            multiplied where they are negative (Keskar et al. 2019, arXiv 1909.05858, section 4.1); 1 for none.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def check(self) -> None:
        """Refuse a number that is out of its range.

        Raises:
            RequestError: One is.
        """
        for field in fields(self):
            RANGES[field.name].check(field.name, getattr(self, field.name))

    def tensors(self) -> "Choice":
        """The same as scalar tensors, so that one compiled loop serves all numbers."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return Choice(**{k: tf.cast(v, tf.int32 if k == "top_k" else tf.float32) for k, v in values.items()})

    def __call__(self, logits, seen, noise):
        """Choose a token for each row.

        Args:
            logits: float32 (batch, vocabulary); -inf for tokens that may not be chosen.
            seen: bool (batch, vocabulary), tokens that were there already.
            noise: float32 (batch, vocabulary), from `gumbel`.

        Returns:
            int32 (batch,).
        """
        penalty = self.repetition_penalty
        logits = tf.where(seen, tf.where(logits > 0, logits / penalty, logits * penalty), logits)
        greedy = self.temperature < _COLDEST
        logits = logits / tf.where(greedy, 1.0, self.temperature)
        restricts = (self.top_k > 0) | (self.top_p < 1) | (self.min_p > 0)
        least = tf.cond(
            restricts, lambda: self._least(logits), lambda: tf.fill([tf.shape(logits)[0], 1], -tf.float32.max)
        )
        # The largest of logits with Gumbel noise is distributed as their softmax.
        noisy = logits + tf.where(greedy, 0.0, noise)
        return tf.argmax(tf.where(logits >= least, noisy, -float("inf")), -1, output_type=tf.int32)

    def _least(self, logits):
        """The smallest logit that may be chosen, (batch, 1)."""
        ordered = tf.sort(logits, direction="DESCENDING")
        size = tf.shape(logits)[-1]
        count = tf.where(self.top_k > 0, tf.minimum(self.top_k, size), size)
        ordered = tf.where(tf.range(size) < count, ordered, -float("inf"))
        probabilities = tf.nn.softmax(ordered)
        before = tf.cumsum(probabilities, axis=-1, exclusive=True)
        stays = (before < self.top_p) & (probabilities >= self.min_p * probabilities[:, :1])
        # The most probable one always stays, whatever the rounding.
        return tf.reduce_min(tf.where(stays, ordered, ordered[:, :1]), -1, keepdims=True)


def start(network, prompts, starts):
    """Read prompts.

    Args:
        network: See `kzoo.tasks.text.network`.
        prompts: int32 (batch, time), each row ending in its last column.
        starts: int32 (batch,), the column in which each row begins; at most ``time - 1``.

    Returns:
        What `write` goes on from: logits (batch, vocabulary), seen (batch, vocabulary), and the state.
    """
    batch, size = tf.shape(prompts)[0], network.output["logits"].shape[-1]
    state = networks.empty_state(network, batch)

    def body(t, logits, seen, state):
        tokens, begun = prompts[:, t], t >= starts
        logits, state = _advance(network, tokens, state)
        # What rows that have not begun have read is forgotten.
        state = networks.forget(state, ~begun)
        return t + 1, logits, seen | (tf.one_hot(tokens, size, True, False) & begun[:, None]), state

    carried = (0, tf.zeros([batch, size]), tf.zeros([batch, size], tf.bool), state)
    shapes = (tf.TensorShape([]), *_shapes(network, size))
    return tf.while_loop(lambda t, *_: t < tf.shape(prompts)[1], body, carried, shapes)[1:]


def gumbel(shape, seed, number):
    """Standard Gumbel noise, float32 of the given shape, which seed and number fix."""
    uniform = tf.random.stateless_uniform(shape, [seed, number], minval=1e-30, alg="philox")
    return -tf.math.log(-tf.math.log(uniform))


def write(network, carried, choice: Choice, seed, place, length, never: tuple[int, ...] = (), fused: bool = False):
    """Write some tokens.

    Args:
        network: See `kzoo.tasks.text.network`.
        carried: From `start`, or from the `write` before.
        choice: How tokens are chosen.
        seed: int32 scalar.
        place: int32 scalar, how many tokens were written before, a multiple of `BLOCK`.
        length: int32 scalar, how many to write.
        never: Tokens that are not chosen.
        fused: Whether XLA compiles the loop, which it can where the state does not grow: faster by half, after a second
            of compilation for each size of the batch. Not for exported graphs: a server may have no such compiler.

    Returns:
        int32 tokens (length, batch), and what the next `write` goes on from.
    """
    batch, size = tf.shape(carried[0])[0], carried[0].shape[-1]
    barred = tf.constant([-float("inf") if t in never else 0.0 for t in range(size)])
    # The draws are made outside of what is compiled, where they are the same with and without XLA.
    block = tf.function(
        lambda *given: _write_block(network, barred, choice, *given), jit_compile=fused or None, autograph=False
    )

    def body(done, logits, seen, state, written):
        noise = gumbel([BLOCK, batch, size], seed, (place + done) // BLOCK)
        tokens, *carried = block(noise, tf.minimum(length - done, BLOCK), logits, seen, state)
        return done + BLOCK, *carried, written.write(done // BLOCK, tokens)

    written = tf.TensorArray(tf.int32, -(-length // BLOCK), element_shape=[BLOCK, None])
    shapes = (tf.TensorShape([]), *_shapes(network, size), tf.TensorShape(None))
    _, *carried, written = tf.while_loop(lambda done, *_: done < length, body, (0, *carried, written), shapes)
    return tf.reshape(written.stack(), [-1, batch])[:length], tuple(carried)


def _write_block(network, barred, choice: Choice, noise, count, logits, seen, state):
    """Tokens (BLOCK, batch), of which the first `count` are written, and the new logits, seen tokens and state."""
    size = logits.shape[-1]

    def body(t, logits, seen, state, written):
        tokens = choice(logits + barred, seen, noise[t])
        logits, state = _advance(network, tokens, state)
        return t + 1, logits, seen | tf.one_hot(tokens, size, True, False), state, written.write(t, tokens)

    written = tf.TensorArray(tf.int32, BLOCK, element_shape=[logits.shape[0]])
    written = written.unstack(tf.zeros([BLOCK, tf.shape(logits)[0]], tf.int32))
    shapes = (tf.TensorShape([]), *_shapes(network, size), tf.TensorShape(None))
    carried = (0, logits, seen, state, written)
    _, *carried, written = tf.while_loop(lambda t, *_: t < count, body, carried, shapes, maximum_iterations=BLOCK)
    return written.stack(), *carried


def most_probable(network, tokens, length, never: tuple[int, ...] = ()):
    """The most probable continuation, in one loop over single tokens of operators that ONNX and LiteRT have.

    Args:
        network: See `kzoo.tasks.text.network`.
        tokens: int32 (batch, time), what to continue.
        length: int32 scalar, how many tokens to write.
        never: Tokens that are not chosen.

    Returns:
        int32 (batch, length).
    """
    batch, time = tf.unstack(tf.shape(tokens))
    size = network.output["logits"].shape[-1]
    barred = tf.constant([-float("inf") if t in never else 0.0 for t in range(size)])
    places = tf.range(time + length)
    # What is written is kept in one tensor: LiteRT has no arrays of tensors whose batch is open.
    text = tf.concat([tokens, tf.zeros([batch, length], tf.int32)], 1)

    def body(t, text, state):
        token = tf.reduce_sum(tf.where(tf.equal(places, t)[None], text, 0), 1)
        logits, state = _advance(network, token, state)
        chosen = tf.argmax(logits + barred, -1, output_type=tf.int32)
        text = tf.where(tf.logical_and(tf.equal(places, t + 1), t + 1 >= time)[None], chosen[:, None], text)
        return t + 1, text, state

    shapes = (tf.TensorShape([]), tf.TensorShape([None, None]), networks.invariants(network))
    start = (0, text, networks.empty_state(network, batch))
    _, text, _ = tf.while_loop(lambda t, *_: t < time + length - 1, body, start, shapes)
    return text[:, time:]


def _advance(network, tokens, state):
    """Read one token for each row."""
    logits, new = networks.read(network, tokens[:, None], state)
    shapes = networks.invariants(network)
    return logits[:, 0], {name: tf.ensure_shape(new[name], shapes[name]) for name in state}


def _shapes(network, size: int):
    """Shapes of logits, seen tokens and state, as loops carry them."""
    return tf.TensorShape([None, size]), tf.TensorShape([None, size]), networks.invariants(network)
