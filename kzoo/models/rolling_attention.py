"""Causal self-attention over the last tokens, whose keys and values are kept from call to call."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("kzoo")
class RollingAttention(keras.layers.Layer):
    """Multi-head attention (Vaswani et al. 2017, arXiv 1706.03762, section 3.2) of new tokens to all that came before.

    Each token attends to itself and the ``context - 1`` tokens before it, of which those of earlier calls are in the
    cache. Queries and keys are turned by their position (rotary embedding: Su et al. 2021, arXiv 2104.09864, section
    3.4.2), so that only distances count and the cache can roll on for ever. The layer has no weights: projections
    belong before and after it.

    Args:
        num_heads: Heads, which divide the width into parts of an even number of values.
        context: Tokens that a token sees, itself included.
        dropout: Share of the attention weights dropped, in [0, 1).
        **kwargs: Of ``keras.layers.Layer``.
    """

    def __init__(self, num_heads: int, context: int, dropout: float = 0.0, seed: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.context, self.dropout, self.seed = num_heads, context, dropout, seed
        if dropout:
            self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, projected, cache, position, training=False):
        """Attend.

        Args:
            projected: Queries, keys and values side by side, (batch, time, 3 * width).
            cache: Keys and values of earlier tokens, (batch, tokens, 2 * width), the latest last.
            position: int32 (batch,), how many tokens came before; where they are fewer than the cache has places, what
                the first ones hold is not looked at.
            training: Whether dropout acts.

        Returns:
            Mixed values, (batch, time, width), and the new cache, of at most `context` tokens.
        """
        time, kept = ops.shape(projected)[1], ops.shape(cache)[1]
        queries, keys, values = (self._heads(part) for part in ops.split(projected, 3, axis=-1))
        places = ops.expand_dims(position, 1) + ops.arange(time, dtype="int32")
        queries, keys = _rotate(queries, places), _rotate(keys, places)
        old_keys, old_values = (self._heads(part) for part in ops.split(cache, 2, axis=-1))
        keys, values = ops.concatenate([old_keys, keys], 1), ops.concatenate([old_values, values], 1)
        scores = ops.einsum("bthd,bshd->bhts", queries, keys) * (1 / queries.shape[-1] ** 0.5)
        # How far back each key lies: negative for what is still to come.
        back = ops.expand_dims(kept + ops.arange(time, dtype="int32"), 1) - ops.arange(kept + time, dtype="int32")
        seen = (back >= 0) & (back < self.context) & (back <= ops.expand_dims(places, 2))
        scores = ops.where(ops.expand_dims(seen, 1), ops.cast(scores, "float32"), -1e9)
        weights = ops.cast(ops.softmax(scores), self.compute_dtype)
        if training and self.dropout:
            weights = keras.random.dropout(weights, self.dropout, seed=self.seed_generator)
        mixed = self._flat(ops.einsum("bhts,bshd->bthd", weights, values))
        cached = ops.concatenate([self._flat(keys), self._flat(values)], -1)
        return mixed, cached[:, -self.context :]

    def compute_output_spec(self, projected, cache, position, training=False):
        """Shapes and dtypes of what `call` returns."""
        batch, time, width = projected.shape
        mixed = keras.KerasTensor((batch, time, width // 3), self.compute_dtype)
        return mixed, keras.KerasTensor((batch, None, width // 3 * 2), self.compute_dtype)

    def get_config(self):
        """Arguments that make this layer again."""
        own = {"num_heads": self.num_heads, "context": self.context, "dropout": self.dropout, "seed": self.seed}
        return {**super().get_config(), **own}

    def _heads(self, x):
        # Each axis is named: of an empty cache nothing could be inferred from the number of values.
        batch, time = ops.shape(x)[:2]
        return ops.reshape(x, (batch, time, self.num_heads, x.shape[-1] // self.num_heads))

    def _flat(self, x):
        batch, time = ops.shape(x)[:2]
        return ops.reshape(x, (batch, time, x.shape[2] * x.shape[3]))


@keras.saving.register_keras_serializable("kzoo")
class Count(keras.layers.Layer):
    """How many tokens came by now: of ``position``, int32 (batch,), and the new tokens, (batch, time)."""

    def call(self, position, tokens):
        """Add the number of new tokens."""
        return position + ops.cast(ops.shape(tokens)[1], "int32")


def _rotate(x, places):
    """Turn each pair of values by an angle that grows with the position.

    Args:
        x: (batch, time, heads, values).
        places: int32 (batch, time).
    """
    half = x.shape[-1] // 2
    speeds = 10_000.0 ** (-ops.arange(half, dtype="float32") / half)
    angles = ops.expand_dims(ops.cast(places, "float32"), (2, 3)) * speeds
    cosine, sine = (ops.cast(f(angles), x.dtype) for f in (ops.cos, ops.sin))
    first, second = x[..., :half], x[..., half:]
    return ops.concatenate([first * cosine - second * sine, first * sine + second * cosine], -1)
