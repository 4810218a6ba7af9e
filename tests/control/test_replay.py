import numpy as np
import pytest

from kzoo.tasks.control.priorities import PrioritisedReplay, SumTree
from kzoo.tasks.control.replay import Replay, megabytes

GAMMA = 0.9


def filled(kind=Replay, steps=400, capacity=60, n_step=3, lanes=2, **more):
    """A memory, and the whole history that went through it, by lane: episodes that end in either way."""
    memory = kind(capacity, lanes, (2,), np.float32, n_step=n_step, discount=GAMMA, **more)
    rng, history = np.random.default_rng(0), [[] for _ in range(lanes)]
    seen = [np.array([lane, 0], np.float32) for lane in range(lanes)]
    for number in range(1, steps + 1):
        for lane in range(lanes):
            end = rng.choice(["", "terminated", "truncated"], p=[0.8, 0.1, 0.1])
            action, reward, after = int(rng.integers(3)), float(rng.normal()), np.array([lane, number], np.float32)
            memory.add(lane, seen[lane], action, reward, end == "terminated")
            history[lane].append((seen[lane], action, reward, after, end))
            seen[lane] = after
            if end:
                memory.end(lane, after)
                seen[lane] = np.array([lane, number + 0.5], np.float32)
    return memory, history


def expected(history, observation, n_step):
    """The transition from an observation by the definition: up to n rewards, and the value of what follows."""
    lane = history[int(observation[0])]
    at = next(i for i, h in enumerate(lane) if np.array_equal(h[0], observation))
    total = 0.0
    for step in range(n_step):
        _, _, reward, after, end = lane[at + step]
        total += GAMMA**step * reward
        if end == "terminated":
            return lane[at][1], total, after, 0.0
        if end == "truncated" or step == n_step - 1:
            return lane[at][1], total, after, GAMMA ** (step + 1)


@pytest.mark.parametrize("n_step", [1, 3, 5])
@pytest.mark.parametrize("kind", [Replay, PrioritisedReplay])
def test_what_is_drawn_follows_the_definition(kind, n_step):
    more = {"alpha": 0.6} if kind is PrioritisedReplay else {}
    memory, history = filled(kind, n_step=n_step, **more)
    rng = np.random.default_rng(1)
    batch = memory.draw(rng, 300, 0.4) if more else memory.sample(rng, 300)
    ends = set()
    for i in range(300):
        action, total, after, discount = expected(history, batch.observations[i], n_step)
        assert batch.actions[i] == action
        assert batch.rewards[i] == pytest.approx(total, abs=1e-5)
        assert batch.discounts[i] == pytest.approx(discount, abs=1e-6)
        ends.add(round(discount, 6))
        if discount:
            np.testing.assert_array_equal(batch.following[i], after)
    assert 0.0 in ends and len(ends) == n_step + 1, "a cut-off is no end: what follows it counts"


def test_every_transition_that_is_complete_can_be_drawn_and_no_other():
    memory, _ = filled(steps=20, capacity=1000, n_step=2, lanes=1)
    batch = memory.sample(np.random.default_rng(0), 5000)
    drawn = set(batch.places.tolist())
    usable = {i for i in range(int(memory.heads[0]) - 2) if not memory.last[0, i]}
    assert drawn == usable


def test_an_empty_memory_is_told():
    with pytest.raises(ValueError, match="empty"):
        Replay(10, 1, (2,), np.float32, n_step=1, discount=0.9).sample(np.random.default_rng(0), 4)


def test_a_memory_comes_back_from_its_arrays():
    memory, _ = filled(PrioritisedReplay, alpha=0.5)
    other, _ = filled(PrioritisedReplay, steps=3, alpha=0.5)
    other.restore({k: v.copy() for k, v in memory.arrays().items()})
    one, two = (m.draw(np.random.default_rng(5), 50, 0.4) for m in (memory, other))
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(two, name))


def test_size_of_a_memory():
    assert megabytes(1_000_000, (84, 84), "uint8") == pytest.approx(7066, rel=1e-3)


def test_the_sum_tree_draws_in_proportion():
    tree = SumTree(5)
    tree.set(np.array([0, 2, 4]), np.array([1.0, 3.0, 6.0]))
    assert tree.total == 10 and list(tree[np.array([0, 1, 2])]) == [1, 0, 3]
    places = tree.find(np.linspace(0, 10, 1000, endpoint=False))
    assert np.bincount(places, minlength=5).tolist() == [100, 0, 300, 0, 600]
    tree.set(np.array([4, 4]), np.array([1.0, 2.0]))
    assert tree.total == 6


def test_priorities_and_their_correction():
    memory, _ = filled(PrioritisedReplay, steps=30, capacity=1000, lanes=1, n_step=1, alpha=0.5)
    usable = np.flatnonzero(memory.tree.sums[memory.tree.leaves :])
    errors = np.linspace(0.1, 2.0, len(usable))
    memory.update(usable, errors)
    priorities = np.sqrt(errors + 1e-6)
    batch = memory.draw(np.random.default_rng(0), 200_000, beta=0.7)
    shares = np.bincount(batch.places, minlength=usable.max() + 1)[usable] / 200_000
    np.testing.assert_allclose(shares, priorities / priorities.sum(), rtol=0.01)
    raw = (len(usable) * priorities / priorities.sum()) ** -0.7
    order = {place: i for i, place in enumerate(usable)}
    for place, weight in zip(batch.places[::5000], batch.weights[::5000], strict=True):
        assert weight == pytest.approx(raw[order[place]] / raw.max(), rel=1e-4)


def test_errors_of_a_training_that_diverged_leave_the_priorities_as_they_are():
    memory, _ = filled(PrioritisedReplay, alpha=0.5)
    before = memory.tree.sums.copy()
    for wrong in (np.nan, np.inf):
        batch = memory.draw(np.random.default_rng(0), 8, 0.4)
        memory.update(batch.places, np.full(8, wrong))
    np.testing.assert_array_equal(memory.tree.sums, before)
    assert memory.highest[0] == 1


def test_an_episode_that_cannot_be_gone_on_with_ends_as_one_that_was_cut_off():
    memory = Replay(20, 1, (1,), np.float32, n_step=2, discount=0.5)
    for number in range(3):
        memory.add(0, np.array([number], np.float32), 0, 1.0, False)
    memory.cut(0)
    for number in range(10, 14):
        memory.add(0, np.array([number], np.float32), 0, 1.0, False)
    batch = memory.gather(np.zeros(2, int), np.array([0, 1]))
    assert batch.following[:, 0].tolist() == [2, 2] and batch.discounts.tolist() == [0.25, 0.5]
    drawn = memory.sample(np.random.default_rng(0), 200).observations[:, 0]
    assert set(drawn) == {0, 1, 10, 11}
