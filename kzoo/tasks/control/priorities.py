"""A replay memory that prefers transitions whose values were wrong (Schaul et al. 2016, arXiv 1511.05952)."""

import numpy as np

from kzoo.tasks.control.replay import Batch, Replay

_LEAST = 1e-6  # no transition is left out for ever


class SumTree:
    """Weights of places, from which places are drawn in logarithmic time."""

    def __init__(self, size: int):
        """All weights start as zero."""
        self.leaves = 1 << max(1, (size - 1).bit_length())
        self.sums = np.zeros(2 * self.leaves)

    def set(self, places: np.ndarray, weights: np.ndarray) -> None:
        """Set weights; of a place given twice the last one holds."""
        nodes = np.asarray(places) + self.leaves
        self.sums[nodes] = weights
        nodes = np.unique(nodes // 2)
        while nodes[0] > 0:
            self.sums[nodes] = self.sums[2 * nodes] + self.sums[2 * nodes + 1]
            nodes = np.unique(nodes // 2)

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        """Weights of places."""
        return self.sums[np.asarray(places) + self.leaves]

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self.sums[1])

    def find(self, marks: np.ndarray) -> np.ndarray:
        """The place in whose part of the sum each mark lies, for marks from 0 to below `total`."""
        nodes, marks = np.ones(len(marks), np.int64), np.array(marks, np.float64)
        while nodes[0] < self.leaves:
            left = self.sums[2 * nodes]
            # A mark that rounding put beyond the end of the weights must not fall into an empty half.
            right = (marks >= left) & (self.sums[2 * nodes + 1] > 0)
            marks -= np.where(right, left, 0)
            nodes = 2 * nodes + right
        return nodes - self.leaves


class PrioritisedReplay(Replay):
    """`Replay` whose transitions are drawn by their priority."""

    def __init__(self, *arguments, alpha: float, **more):
        """See `Replay`.

        Args:
            *arguments: Of `Replay`.
            alpha: Exponent of the priorities.
            **more: Of `Replay`.
        """
        super().__init__(*arguments, **more)
        self.alpha, self.tree = alpha, SumTree(self.lanes * self.length)
        self.highest = np.ones(1)

    def _put(self, lane, observation, action, reward, terminated, last) -> int:
        place = super()._put(lane, observation, action, reward, terminated, last)
        # What is written over takes a frame away from the stacks right after it.
        start = lane * self.length
        places = [start + (place - start + k) % self.length for k in range(self.stack)]
        weights = [0.0] * self.stack
        complete = self.heads[lane] - 1 - self.n_step
        if complete >= 0 and not self.last[lane, complete % self.length]:
            # A new transition is drawn as if it were as wrong as any before.
            places.append(int(start + complete % self.length))
            weights.append(float(self.highest[0]) ** self.alpha)
        self.tree.set(np.array(places), np.array(weights))
        return place

    def draw(self, rng: np.random.Generator, size: int, beta: float) -> Batch:
        """Draw transitions by priority, with the weights that correct for it.

        Args:
            rng: The training's generator.
            size: How many.
            beta: Exponent of the correction, 1 for the whole of it.
        """
        if self.tree.total <= 0:
            raise ValueError("the memory is empty")
        marks = (np.arange(size) + rng.random(size)) * (self.tree.total / size)
        places = self.tree.find(marks)
        lanes, at = np.divmod(places, self.length)
        batch = self.gather(lanes, at)
        count = np.count_nonzero(self.tree.sums[self.tree.leaves :])
        weights = (count * self.tree[places] / self.tree.total) ** -beta
        batch.weights[:] = weights / weights.max()
        return batch

    def update(self, places: np.ndarray, errors: np.ndarray) -> None:
        """Set priorities by absolute errors; places that were overwritten or are not usable stay so."""
        places, errors = places.reshape(-1), errors.reshape(-1).astype(np.float64) + _LEAST
        # Of a training that has diverged the evaluation tells; what is no number must not spread through the sums.
        finite = np.isfinite(errors)
        places, errors = places[finite], errors[finite]
        known = self.tree[places] > 0
        if known.any():
            self.tree.set(places[known], errors[known] ** self.alpha)
            self.highest[0] = max(self.highest[0], errors.max())

    def arrays(self) -> dict[str, np.ndarray]:
        """All that the memory holds, by name."""
        return {**super().arrays(), "sums": self.tree.sums, "highest": self.highest}
