"""Tokenisers as TensorFlow operations, for graphs that take and give strings."""

import numpy as np
import tensorflow as tf

from kzoo.data.text.tokenizers import REPLACEMENT, Bytes, Characters


def encode(tokenizer: Characters | Bytes, prompts, instead: int):
    """Tokens of prompts, each row ending in the last column.

    Args:
        tokenizer: The tokeniser.
        prompts: string (batch,), UTF-8.
        instead: The token that an empty prompt consists of.

    Returns:
        int32 tokens (batch, time), and int32 (batch,), the column in which each row begins.
    """
    if isinstance(tokenizer, Characters):
        codes = tf.strings.unicode_decode(prompts, "UTF-8")
        known = tf.constant(tokenizer.codes.astype(np.int32))
        tokens = codes.with_flat_values(_search(known, codes.flat_values))
    else:
        # In Latin-1 each byte is the character of its number.
        tokens = tf.strings.unicode_decode(prompts, "ISO-8859-1")
    lengths = tf.cast(tokens.row_lengths(), tf.int32)
    # Turned round, rows are padded behind their end.
    turned = tf.reverse(tokens[:, ::-1].to_tensor(instead), [1])
    turned = tf.cond(tf.shape(turned)[1] > 0, lambda: turned, lambda: tf.fill([tf.shape(prompts)[0], 1], instead))
    return turned, tf.shape(turned)[1] - tf.maximum(lengths, 1)


def decode(tokenizer: Characters | Bytes, tokens):
    """Strings (batch,) of tokens (time, batch)."""
    if isinstance(tokenizer, Characters):
        pieces = [c.encode("utf-8", "surrogatepass") for c in REPLACEMENT + tokenizer.vocabulary]
    else:
        pieces = [bytes([b]) for b in range(256)]
    return tf.strings.reduce_join(tf.gather(tf.constant(pieces), tokens), 0)


def _search(known, codes):
    places = tf.minimum(tf.searchsorted(known, codes), known.shape[0] - 1)
    return tf.where(tf.gather(known, places) == codes, places + 1, 0)
