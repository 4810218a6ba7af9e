"""Recurrent language models in the manner of char-rnn (Karpathy 2015)."""

from typing import Literal

import keras

from kzoo.models.fast_lstm import LSTM
from kzoo.registry import register


@register(task="text", parameters=3454274)
def lstm_textgen(
    vocab_size: int = 66,
    num_layers: int = 2,
    units: int = 512,
    embedding: int = 128,
    cell: Literal["lstm", "gru", "rnn"] = "lstm",
    tied: bool = False,
    layer_norm: bool = False,
    residual: bool = False,
    input_dropout: float = 0.0,
    dropout: float = 0.0,
    variational: bool = False,
    weight_dropout: float = 0.0,
    dtype_policy: str = "float32",
) -> keras.Model:
    """An embedding, recurrent layers, and a softmax over the next token; the state comes in and goes out.

    The same network trains on chunks whose state is carried on, judges a text of any length, and writes a text token by
    token: what it has read is in its state alone, which starts as zeros. Its LSTM layers are Keras's in weights and
    results; see `kzoo.models.fast_lstm`.

    Args:
        vocab_size: Number of different tokens, at least 2.
        num_layers: Recurrent layers.
        units: Width of each recurrent layer.
        embedding: Width of a token's vector.
        cell: The recurrent layers' kind: long short-term memory, gated recurrent units (Cho et al. 2014), or simple
            recurrence with tanh.
        tied: Whether the softmax shares its weights with the embedding (Press and Wolf 2016, arXiv 1608.05859); a
            projection without bias to the embedding's width comes before it where that is not `units`.
        layer_norm: Whether each recurrent layer's output is normalised (Ba et al. 2016, arXiv 1607.06450).
        residual: Whether a recurrent layer's input is added to its output, where both have the same width.
        input_dropout: Share of the embedded values dropped, in [0, 1).
        dropout: Share of the values dropped after each recurrent layer, the last one included (Zaremba et al. 2014,
            arXiv 1409.2329), in [0, 1).
        variational: Whether both kinds of dropout drop a unit for a whole chunk of text instead of anew at each token
            (Gal and Ghahramani 2015, arXiv 1512.05287).
        weight_dropout: Share of an LSTM's recurrent weights dropped in a training step (Merity et al. 2017, arXiv
            1708.02182), in [0, 1); of other cells it must be 0.
        dtype_policy: Keras dtype policy of all layers but the logits, which stay float32, as the state does.

    Returns:
        A model from ``tokens``, int32 (batch, time), and the state of each layer, float32 (batch, units) ``h1``,
        ``h2``, ... and for an LSTM ``c1``, ``c2``, ..., to ``logits``, float32 (batch, time, vocab_size), of the token
        that follows each, and the new state under the same names.

    Raises:
        ValueError: A number is out of its range.
    """
    _check(vocab_size, num_layers, units, embedding, cell, weight_dropout)
    policy, layers = {"dtype": dtype_policy}, keras.layers
    drop = layers.SpatialDropout1D if variational else layers.Dropout

    tokens = keras.Input((None,), dtype="int32", name="tokens")
    table = layers.ReversibleEmbedding if tied else layers.Embedding
    more = {"reverse_dtype": "float32"} if tied else {}
    embed = table(vocab_size, embedding, name="embedding", **more, **policy)
    x, before, after = embed(tokens), {}, {}
    if input_dropout:
        x = drop(input_dropout, name="embedding_dropout", **policy)(x)
    for number in range(1, num_layers + 1):
        names = [f"{kind}{number}" for kind in ("hc" if cell == "lstm" else "h")]
        states = [keras.Input((units,), name=name) for name in names]
        y, *new = _recurrent(cell, units, weight_dropout, f"{cell}{number}", dtype_policy)(x, initial_state=states)
        before |= dict(zip(names, states, strict=True))
        after |= {n: layers.Identity(dtype="float32", name=f"{n}_next")(s) for n, s in zip(names, new, strict=True)}
        if layer_norm:
            y = layers.LayerNormalization(name=f"norm{number}", **policy)(y)
        if dropout:
            y = drop(dropout, name=f"dropout{number}", **policy)(y)
        x = layers.Add(name=f"add{number}", **policy)([x, y]) if residual and x.shape[-1] == units else y
    if tied and embedding != units:
        x = layers.Dense(embedding, use_bias=False, name="projection", **policy)(x)
    logits = embed(x, reverse=True) if tied else layers.Dense(vocab_size, dtype="float32", name="logits")(x)
    return keras.Model({"tokens": tokens, **before}, {"logits": logits, **after}, name="lstm_textgen")


def _recurrent(cell: str, units: int, weight_dropout: float, name: str, dtype_policy: str) -> keras.layers.RNN:
    common = {"return_sequences": True, "return_state": True, "name": name, "dtype": dtype_policy}
    if cell == "lstm":
        return LSTM(units, weight_dropout, **common)
    return (keras.layers.GRU if cell == "gru" else keras.layers.SimpleRNN)(units, **common)


def _check(vocab_size, num_layers, units, embedding, cell, weight_dropout):
    if vocab_size < 2:
        raise ValueError(f"vocab_size is {vocab_size}, and a language model needs at least 2 tokens")
    if min(num_layers, units, embedding) < 1:
        raise ValueError("num_layers, units and embedding must be positive")
    if weight_dropout and cell != "lstm":
        raise ValueError(f"weight_dropout is for LSTM cells, and cell is {cell!r}")
