"""Small decoder-only Transformers in the manner of nanoGPT (Karpathy 2022)."""

import keras

from kzoo.models.rolling_attention import Count, RollingAttention
from kzoo.registry import register


@register(task="text", parameters=10647168)
def transformer_textgen(
    vocab_size: int = 66,
    num_layers: int = 6,
    num_heads: int = 6,
    width: int = 384,
    context: int = 256,
    dropout: float = 0.0,
    bias: bool = False,
    dtype_policy: str = "float32",
) -> keras.Model:
    """Blocks of causal attention and a hidden layer, and a softmax over the next token that shares the embedding.

    The layout and the starting weights are GPT-2's as nanoGPT has them: normalisation before each part of a block and
    at the end, GELU, residual projections that start smaller the more layers there are. The defaults are its character
    model. Positions are rotary instead of learned, so that the keys and values that are kept can roll on beyond the
    context; see `kzoo.models.rolling_attention`.

    Args:
        vocab_size: Number of different tokens, at least 2.
        num_layers: Blocks.
        num_heads: Heads of attention in each block.
        width: Width of a token's vector, which the heads divide into parts of an even number of values.
        context: Tokens that a token sees in a block, itself included.
        dropout: Share of values dropped: embeddings, attention weights, and what each part adds, in [0, 1).
        bias: Whether dense layers and normalisations have one.
        dtype_policy: Keras dtype policy of all layers but the logits, which stay float32, as the state does.

    Returns:
        A model from ``tokens``, int32 (batch, time), ``position``, int32 (batch,), the number of tokens read before,
        and for each block a ``cache1``, ``cache2``, ..., float32 (batch, tokens, 2 * width), keys and values of the
        last tokens read, none at the start; to ``logits``, float32 (batch, time, vocab_size), of the token that
        follows each, and the new state under the same names.

    Raises:
        ValueError: A number is out of its range, or the heads do not divide the width.
    """
    _check(vocab_size, num_layers, num_heads, width, context)
    policy, layers = {"dtype": dtype_policy}, keras.layers

    def start(scale):
        return keras.initializers.RandomNormal(stddev=scale)

    def norm(x, name):
        return layers.LayerNormalization(epsilon=1e-5, center=bias, name=name, **policy)(x)

    def dense(x, units, name, scale=0.02, activation=None):
        kind = layers.Dense(units, activation, use_bias=bias, kernel_initializer=start(scale), name=name, **policy)
        return kind(x)

    def drop(x, name):
        return layers.Dropout(dropout, name=name, **policy)(x) if dropout else x

    tokens = keras.Input((None,), dtype="int32", name="tokens")
    position = keras.Input((), dtype="int32", name="position")
    before, after = {"position": position}, {"position": Count(name="position_next")(position, tokens)}
    embed = layers.ReversibleEmbedding(
        vocab_size, width, embeddings_initializer=start(0.02), reverse_dtype="float32", name="embedding", **policy
    )
    x = drop(embed(tokens), "embedding_dropout")
    residual = 0.02 / (2 * num_layers) ** 0.5
    for number in range(1, num_layers + 1):
        name = f"block{number}"
        before[f"cache{number}"] = keras.Input((None, 2 * width), name=f"cache{number}")
        attention = RollingAttention(num_heads, context, dropout, name=f"{name}_attention", **policy)
        projected = dense(norm(x, f"{name}_norm1"), 3 * width, f"{name}_qkv")
        y, cache = attention(projected, before[f"cache{number}"], position)
        after[f"cache{number}"] = layers.Identity(dtype="float32", name=f"cache{number}_next")(cache)
        y = drop(dense(y, width, f"{name}_projection", residual), f"{name}_dropout1")
        x = layers.Add(name=f"{name}_add1", **policy)([x, y])
        y = dense(norm(x, f"{name}_norm2"), 4 * width, f"{name}_hidden", activation="gelu")
        y = drop(dense(y, width, f"{name}_output", residual), f"{name}_dropout2")
        x = layers.Add(name=f"{name}_add2", **policy)([x, y])
    logits = embed(norm(x, "norm"), reverse=True)
    return keras.Model({"tokens": tokens, **before}, {"logits": logits, **after}, name="transformer_textgen")


def _check(vocab_size, num_layers, num_heads, width, context):
    if vocab_size < 2:
        raise ValueError(f"vocab_size is {vocab_size}, and a language model needs at least 2 tokens")
    if min(num_layers, num_heads, width, context) < 1:
        raise ValueError("num_layers, num_heads, width and context must be positive")
    if width % (2 * num_heads):
        raise ValueError(f"width is {width}, and {num_heads} heads of an even number of values do not divide it")
