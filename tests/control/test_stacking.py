"""Stacked observations: shown by the lanes, kept once by the memory, put together again."""

import gymnasium
import numpy as np
import pytest

from kzoo.tasks.control import environments
from kzoo.tasks.control.priorities import PrioritisedReplay
from kzoo.tasks.control.replay import Replay, megabytes
from kzoo.tasks.control.settings import Data

STACK, N_STEP = 3, 2


class Counter(gymnasium.Env):
    """Pictures of 2x1 that count on and on; episodes end after 5 steps, or are cut off after 4."""

    observation_space = gymnasium.spaces.Box(0, 255, (2, 1, 1), np.uint8)
    action_space = gymnasium.spaces.Discrete(2)
    count = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.cut = 0, int(self.np_random.integers(2))
        return self._seen(), {"lives": 3}

    def step(self, action):
        self.time += 1
        lives = {"lives": 3 - self.time // 2}
        return self._seen(), 1.0, self.time == 5, bool(self.cut) and self.time == 4, lives

    def _seen(self):
        Counter.count += 1
        return np.full((2, 1, 1), Counter.count % 256, np.uint8)


def played(kind, steps=150, capacity=60, **more):
    """A memory after a play of two lanes, and the shown observations after each shown observation."""
    Counter.count = 0
    lanes = environments.Lanes(Counter, 2, (0, 0), STACK)
    memory = kind(capacity, 2, lanes.observations.shape[1:], np.uint8, n_step=N_STEP, discount=0.9, stack=STACK, **more)
    shown = []
    for _ in range(steps):
        for lane in range(2):
            before = lanes.observations[lane].copy()
            _, terminated, truncated = lanes.step(lane, 0)
            memory.add(lane, before, 0, 1.0, terminated)
            shown.append((before.copy(), lanes.observations[lane].copy()))
            if terminated or truncated:
                memory.end(lane, lanes.observations[lane])
                lanes.reset(lane)
    return memory, shown


@pytest.mark.parametrize("kind", [Replay, PrioritisedReplay])
@pytest.mark.parametrize("steps", [10, 150])
def test_stacks_come_back_as_they_were_shown(kind, steps):
    memory, shown = played(kind, steps, **({"alpha": 0.6} if kind is PrioritisedReplay else {}))
    rng = np.random.default_rng(0)
    batch = memory.sample(rng, 500) if kind is Replay else memory.draw(rng, 500, 0.4)
    known = {before.tobytes() for before, _ in shown}
    after = {x.tobytes() for _, x in shown}
    assert all(seen.tobytes() in known for seen in batch.observations)
    assert all(seen.tobytes() in after for seen, d in zip(batch.following, batch.discounts, strict=True) if d)
    assert {int((seen[0, 0] > 0).sum()) for seen in batch.observations} >= {2, 3}, "zero before an episode's first"


def test_a_shown_stack_ends_with_the_newest_and_starts_with_zero():
    Counter.count = 0
    lanes = environments.Lanes(Counter, 1, (0, 0), STACK)
    np.testing.assert_array_equal(lanes.observations[0, 0, 0], [0, 0, 1])
    for expected in ([0, 1, 2], [1, 2, 3], [2, 3, 4]):
        lanes.step(0, 0)
        np.testing.assert_array_equal(lanes.observations[0, 0, 0], expected)
    assert lanes.lives == [2]


def test_a_lost_life_ends_what_is_learnt_but_not_the_stack():
    memory = Replay(20, 1, (1, 2), np.uint8, n_step=3, discount=0.5, stack=2)
    for number in range(8):
        memory.add(0, np.array([[number, number + 1]], np.uint8), 0, 1.0, terminated=number == 2)
    batch = memory.gather(np.zeros(3, int), np.array([1, 2, 3]))
    assert batch.rewards.tolist() == [1.5, 1.0, 1.75] and batch.discounts.tolist() == [0, 0, 0.125]
    assert batch.observations[2].tolist() == [[3, 4]], "the frame before the lost life is still in sight"


def test_a_frame_is_kept_once():
    memory = Replay(1000, 1, (84, 84, 4), np.uint8, n_step=1, discount=0.99, stack=4)
    assert memory.observations.shape == (1, 1000, 84, 84, 1)
    memory.heads[:] = 1000
    kept = sum(a.nbytes for a in memory.arrays().values())
    assert megabytes(1000, (84, 84, 4), np.uint8, 4) == pytest.approx(kept / 1e6, rel=1e-3)


def test_truth_values_are_kept_as_bytes_and_stacks_are_described():
    gymnasium.register("Counter-v0", Counter)
    try:
        seen = environments.describe(Data(env="Counter-v0", stack=4))
        assert (seen.observation_shape, seen.dtype) == ((2, 1, 4), "uint8")
        assert environments._dtype(gymnasium.spaces.Box(0, 1, (3,), bool)) is np.uint8
    finally:
        del gymnasium.registry["Counter-v0"]
