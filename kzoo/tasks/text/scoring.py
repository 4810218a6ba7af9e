"""Judging: what a network would have given for each token of a text.

Two protocols, whose figures differ for the same network, so that each figure names its own. Carried: the whole text is
read once, and each token is predicted from all that came before it. Windows: the text is cut into windows of one
length, each is read from an empty state, and the mean over all places is taken; that is how nanoGPT's figures are made.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.tasks.text import network as networks

CHUNK = 128
ROWS = 64
_LARGEST_LOSS = math.log(sys.float_info.max)  # beyond it the perplexity is no number of the machine's


@dataclass(frozen=True)
class Reading:
    """A text laid out for a batch of rows that are read chunk by chunk.

    Attributes:
        places: int64 (rows, time): the places in the text that are read, each predicting the next place.
        counted: bool (rows, time), whether the prediction counts; each of the text's tokens but the first is counted
            in one place.
        chunk: Tokens of a chunk; `time` is a multiple of it.
        resets: bool (rows, chunks), whether a row starts a chunk with an empty state.
    """

    places: np.ndarray
    counted: np.ndarray
    chunk: int
    resets: np.ndarray

    def __len__(self) -> int:
        return self.places.shape[1] // self.chunk

    def chunks(self, tokens: np.ndarray, never: tuple[int, ...] = ()) -> Iterator[tuple[np.ndarray, ...]]:
        """Chunks in order: int32 inputs, int32 targets, bool counted, all (rows, chunk), and bool resets (rows,).

        Args:
            tokens: The text.
            never: Tokens that are not counted where they are to be predicted: no network knows unknown characters.
        """
        last = len(tokens) - 1
        for number in range(len(self)):
            part = slice(number * self.chunk, (number + 1) * self.chunk)
            places = self.places[:, part]
            inputs, targets = (tokens[np.clip(p, 0, last)].astype(np.int32) for p in (places, places + 1))
            yield inputs, targets, self.counted[:, part] & ~np.isin(targets, never), self.resets[:, number]


def carried(count: int, *, rows: int = ROWS, warm_up: int = 4 * CHUNK, chunk: int = CHUNK) -> Reading:
    """The whole text with its state carried on.

    So that rows can be read at once, the text is cut into as many stretches, and each row first reads, without being
    judged, the `warm_up` tokens before its stretch: what lay still further back no longer shows in the state of a
    trained network (see the tests for how little). A text too short for that is read in fewer rows.

    Args:
        count: Tokens of the text, at least 2.
        rows: Rows at most.
        warm_up: Tokens read before a stretch, a multiple of `chunk`.
        chunk: Tokens of a chunk.
    """
    rows = max(1, min(rows, count // (2 * warm_up)))
    warm_up = warm_up if rows > 1 else 0
    stretch = -(-(count - 1) // rows)
    time = warm_up + -(-stretch // chunk) * chunk
    # Stretches of whole chunks: the last one may be short, and no place is read twice but for warming up.
    starts = np.arange(rows) * stretch
    places = starts[:, None] + np.arange(-warm_up, time - warm_up)
    counted = (places >= starts[:, None]) & (places < np.minimum(starts + stretch, count - 1)[:, None])
    resets = np.zeros((rows, time // chunk), bool)
    resets[:, 0] = True
    # The first row has nothing before it, and what it reads meanwhile is forgotten.
    resets[0, warm_up // chunk] = True
    return Reading(places, counted, chunk, resets)


def windows(count: int, length: int, *, rows: int = ROWS) -> Reading:
    """The whole text in consecutive windows from an empty state."""
    number = -(-(count - 1) // length)
    rows = min(rows, number)
    turns = -(-number // rows)
    starts = np.arange(turns * rows).reshape(turns, rows).T * length
    places = (starts[:, :, None] + np.arange(length)).reshape(rows, turns * length)
    return Reading(places, places < count - 1, length, np.ones((rows, turns), bool))


def surprise(network, tokens: np.ndarray, reading: Reading, never: tuple[int, ...] = ()) -> np.ndarray:
    """What each token costs.

    Args:
        network: See `kzoo.tasks.text.network`.
        tokens: The text, (count,).
        reading: How it is read.
        never: See `Reading.chunks`.

    Returns:
        float32 (count,), minus the natural logarithm of the probability that the network gave to each token; NaN for
        the first one, which nothing predicts, and for those that are not counted.
    """
    found = np.full(len(tokens), np.nan, np.float32)
    state = networks.empty_state(network, len(reading.places))

    @tf.function(autograph=False)
    def judge(inputs, targets, resets, state):
        logits, new = networks.read(network, inputs, networks.forget(state, resets))
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits), new

    for number, (inputs, targets, counted, resets) in enumerate(reading.chunks(tokens, never)):
        losses, state = judge(*(tf.constant(v) for v in (inputs, targets, resets)), state)
        places = reading.places[:, number * reading.chunk : (number + 1) * reading.chunk] + 1
        found[places[counted]] = losses.numpy()[counted]
    return found


def judge(model, tokens: np.ndarray, never: tuple[int, ...], window: int) -> dict[str, Any]:
    """Figures of a text.

    Args:
        model: See `kzoo.tasks.text.network`.
        tokens: The text.
        never: See `Reading.chunks`.
        window: Length of the windows.

    Returns:
        ``loss`` (nats for a token), ``bits`` and ``perplexity`` with carried state; ``window_loss`` and ``window_bits``
        in windows from an empty state; ``window``; ``tokens``, those that were judged; ``unknown``, those that were
        not because they are no known characters.
    """
    costs = surprise(model, tokens, carried(len(tokens)), never)
    return figures(costs, surprise(model, tokens, windows(len(tokens), window), never), window)


def figures(costs: np.ndarray, cut: np.ndarray, window: int) -> dict[str, Any]:
    """Figures of a text from what its tokens cost under both protocols; see `judge`."""
    judged = ~np.isnan(costs)
    loss, window_loss = (float(np.mean(c[judged], dtype=np.float64)) for c in (costs, cut))
    return {
        "loss": loss,
        "bits": loss / math.log(2),
        "perplexity": math.exp(loss) if loss < _LARGEST_LOSS else math.inf,
        "window_loss": window_loss,
        "window_bits": window_loss / math.log(2),
        "window": window,
        "tokens": int(judged.sum()),
        "unknown": int(np.isnan(costs[1:]).sum()),
    }
