"""The replay memory: what was seen and done, each observation kept once.

A lane's observations lie one behind the other. The last one of an episode has a place of its own, in which nothing was
done, so that what follows a transition is simply the next place, also where an episode was cut off. Of stacked
observations only the newest frame is kept; a stack is put together from the places before, and is zero before an
episode's first frame.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Batch:
    """Transitions drawn from the memory.

    Attributes:
        observations: (batch, ...).
        actions: int32 (batch,).
        rewards: float32 (batch,), discounted sums of up to n rewards.
        following: Observations after these, (batch, ...).
        discounts: float32 (batch,), what the value of `following` counts: ``discount ** m`` after m rewards, 0 after
            the end of an episode; a cut-off is no end.
        weights: float32 (batch,), importance of each transition in the loss.
        places: int64 (batch,), for new priorities.
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    following: np.ndarray
    discounts: np.ndarray
    weights: np.ndarray
    places: np.ndarray


class Replay:
    """A ring of places for each lane."""

    def __init__(
        self, capacity: int, lanes: int, shape: tuple[int, ...], dtype, n_step: int, discount: float, stack: int = 1
    ):
        """Reserve the memory.

        Args:
            capacity: Places of all lanes together.
            lanes: Environments that are played side by side.
            shape: Shape of an observation.
            dtype: Its type.
            n_step: Rewards that are summed.
            discount: Of each following reward.
            stack: Frames in an observation, along its last axis.
        """
        self.length, self.lanes, self.stack = max(capacity // lanes, n_step + stack + 1), lanes, stack
        self.channels = shape[-1] // stack if shape else 1
        places = (lanes, self.length)
        self.observations = np.zeros((*places, *_frame(shape, stack)), dtype)
        # How many frames of the same episode lie before a place, of those that a stack may need.
        self.ages = np.zeros(places, np.uint8)
        self.actions = np.zeros(places, np.int32)
        self.rewards = np.zeros(places, np.float32)
        self.terminated = np.zeros(places, bool)
        self.last = np.zeros(places, bool)
        self.heads = np.zeros(lanes, np.int64)  # places written so far
        self.n_step, self.discount = n_step, discount

    def add(self, lane: int, observation, action: int, reward: float, terminated: bool) -> int:
        """Keep what was seen, then done, and what came of it; returns the place."""
        return self._put(lane, observation, action, reward, terminated, False)

    def end(self, lane: int, observation) -> int:
        """Keep the last observation of an episode that terminated or was cut off; returns the place."""
        return self._put(lane, observation, 0, 0.0, False, True)

    def cut(self, lane: int) -> None:
        """Let a lane's unfinished episode end, as one that was cut off, with the last observation that is known."""
        if self.heads[lane]:
            self.last[lane, (self.heads[lane] - 1) % self.length] = True

    def _put(self, lane, observation, action, reward, terminated, last) -> int:
        at = self.heads[lane] % self.length
        self.observations[lane, at] = observation[..., -self.channels :] if self.stack > 1 else observation
        fresh = self.heads[lane] == 0 or self.last[lane, at - 1]
        self.ages[lane, at] = 0 if fresh else min(self.ages[lane, at - 1] + 1, self.stack - 1)
        self.actions[lane, at], self.rewards[lane, at] = action, reward
        self.terminated[lane, at], self.last[lane, at] = terminated, last
        self.heads[lane] += 1
        return int(lane * self.length + at)

    def sample(self, rng: np.random.Generator, size: int) -> Batch:
        """Draw transitions evenly; those whose n rewards are not all there yet are left out.

        Raises:
            ValueError: There is no transition to draw yet.
        """
        # The oldest places lack what a stack needs of those before them, once these are written over.
        usable = np.where(self.heads > self.length, self.length - self.stack + 1, self.heads) - self.n_step
        if usable.max() < 1:
            raise ValueError("the memory is empty")
        chances = np.maximum(usable, 0) / np.maximum(usable, 0).sum()
        lanes, numbers = np.empty(size, np.int64), np.empty(size, np.int64)
        missing = np.arange(size)
        for _ in range(1000):
            lanes[missing] = rng.choice(self.lanes, missing.size, p=chances) if self.lanes > 1 else 0
            ages = self.n_step + 1 + (rng.random(missing.size) * usable[lanes[missing]]).astype(np.int64)
            numbers[missing] = self.heads[lanes[missing]] - ages
            missing = missing[self.last[lanes[missing], numbers[missing] % self.length]]
            if not missing.size:
                return self.gather(lanes, numbers)
        raise ValueError("the memory holds ends of episodes only")

    def gather(self, lanes: np.ndarray, numbers: np.ndarray) -> Batch:
        """The transitions from given places, by lane and number of the place since the beginning."""
        at = numbers % self.length
        size = len(at)
        rewards, discounts = np.zeros(size, np.float32), np.ones(size, np.float32)
        running, following = np.ones(size, bool), at
        for step in range(self.n_step):
            here = (at + step) % self.length
            rewards += np.where(running, np.float32(self.discount**step) * self.rewards[lanes, here], 0)
            after = (here + 1) % self.length
            following = np.where(running, after, following)
            discounts = np.where(running, np.float32(self.discount ** (step + 1)), discounts)
            ended = running & self.terminated[lanes, here]
            discounts[ended] = 0
            running &= ~(self.last[lanes, after] | ended)
        return Batch(
            self._stacked(lanes, at),
            self.actions[lanes, at],
            rewards,
            self._stacked(lanes, following),
            discounts,
            np.ones(size, np.float32),
            lanes * self.length + at,
        )

    def _stacked(self, lanes: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Observations as they were shown."""
        if self.stack == 1:
            return self.observations[lanes, at]
        back = np.arange(self.stack - 1, -1, -1)
        frames = self.observations[lanes[:, None], (at[:, None] - back) % self.length]
        frames[self.ages[lanes, at][:, None] < back] = 0
        return np.concatenate([frames[:, k] for k in range(self.stack)], -1)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that the memory holds, by name, without the places that nothing was written to yet."""
        names = ("observations", "ages", "actions", "rewards", "terminated", "last")
        filled = min(int(self.heads.max()), self.length)
        return {**{k: getattr(self, k)[:, :filled] for k in names}, "heads": self.heads}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """Take what another process's memory held."""
        self.heads[:] = arrays["heads"]
        for name, value in self.arrays().items():
            value[...] = arrays[name]


def megabytes(capacity: int, shape: tuple[int, ...], dtype, stack: int = 1) -> float:
    """Size of a memory in 10**6 bytes."""
    return capacity * (int(np.prod(_frame(shape, stack))) * np.dtype(dtype).itemsize + 11) / 1e6


def _frame(shape: tuple[int, ...], stack: int) -> tuple[int, ...]:
    """Shape of one frame of a stacked observation."""
    return (*shape[:-1], shape[-1] // stack) if shape else ()
