"""Tokens to training chunks, which are a pure function of (seed, step)."""

import numpy as np

from kzoo.data import stepwise
from kzoo.errors import RequestError

# Parts of the key of a random generator, so that they are independent.
_ROTATION, _RESET, _WINDOW = 0, 1, 2


class Lanes:
    """Consecutive chunks of as many stretches of the text as a batch has rows, for truncated backpropagation.

    A pass starts at a random place of the text, which is then read around: row r of a step's batch goes on where row r
    of the step before ended. At the start of a pass every row begins anew, and `reset` of the rows do at any step.
    """

    def __init__(self, tokens: np.ndarray, *, batch_size: int, length: int, reset: float = 0.0, seed: int = 0):
        """Describe the chunks.

        Args:
            tokens: The training part, (count,).
            batch_size: Rows.
            length: Tokens that a chunk predicts.
            reset: Chance that a row's state is forgotten before a step, in [0, 1).
            seed: Fixes places and resets.

        Raises:
            RequestError: The text is too short for one chunk of each row.
        """
        self.tokens, self.batch_size, self.length, self.reset, self.seed = tokens, batch_size, length, reset, seed
        self.steps_per_pass = len(tokens) // (batch_size * length)
        if not self.steps_per_pass:
            raise RequestError(
                f"the training part has {len(tokens):,} tokens, and one batch takes data.batch_size x data.length = "
                f"{batch_size} x {length}"
            )

    def chunk(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """The chunk of a step, counted from the start of the training.

        Returns:
            int32 tokens (batch, length + 1), each of which but the last predicts the next, and bool (batch,), whether a
            row starts with an empty state.
        """
        number, place = divmod(step, self.steps_per_pass)
        start = int(np.random.default_rng([self.seed, _ROTATION, number]).integers(len(self.tokens)))
        rows = np.arange(self.batch_size)[:, None] * (len(self.tokens) // self.batch_size)
        places = start + rows + place * self.length + np.arange(self.length + 1)
        tokens = self.tokens[places % len(self.tokens)].astype(np.int32)
        if place == 0:
            return tokens, np.ones(self.batch_size, bool)
        return tokens, np.random.default_rng([self.seed, _RESET, step]).random(self.batch_size) < self.reset


class Windows:
    """Chunks from random places of the text, each of which starts with an empty state."""

    def __init__(self, tokens: np.ndarray, *, batch_size: int, length: int, seed: int = 0):
        """Describe the chunks; see `Lanes`."""
        self.tokens, self.batch_size, self.length, self.seed = tokens, batch_size, length, seed
        if len(tokens) <= length:
            raise RequestError(
                f"the training part has {len(tokens):,} tokens, too few for windows of data.length = {length}"
            )
        self.steps_per_pass = max(1, len(tokens) // (batch_size * length))

    def chunk(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """See `Lanes.chunk`."""
        rng = np.random.default_rng([self.seed, _WINDOW, step])
        starts = rng.integers(len(self.tokens) - self.length, size=(self.batch_size, 1))
        tokens = self.tokens[starts + np.arange(self.length + 1)].astype(np.int32)
        return tokens, np.ones(self.batch_size, bool)


def dataset(chunks: Lanes | Windows, first_step: int, steps: int):
    """A ``tf.data.Dataset`` of the chunks of `steps` steps from `first_step` on."""
    arrays = [("int32", (chunks.batch_size, chunks.length + 1)), ("bool", (chunks.batch_size,))]
    return stepwise.dataset(range(first_step, first_step + steps), chunks.chunk, arrays)
