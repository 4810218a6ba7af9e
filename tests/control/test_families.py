"""Families of environments that bring their own packages."""

import sys

import numpy as np
import pytest

import kzoo
from kzoo.tasks.control import environments
from kzoo.tasks.control.settings import Data


def test_atari_frames_are_those_of_the_emulators_own_stack():
    pytest.importorskip("ale_py", reason="the extra `atari` is not installed")
    from ale_py.vector_env import AtariVectorEnv

    data = Data(env="ALE/Breakout-v5", stack=4)
    assert environments.describe(data) == environments.Description((84, 84, 4), "uint8", 4, False)
    lanes = environments.Lanes(lambda: environments.make(data), 1, (7, 0), 4)
    peer = AtariVectorEnv("breakout", 1, num_threads=1, reward_clipping=False)
    key = np.random.SeedSequence([7, 0, 0, 0]).generate_state(1)[0] % 2**31
    seen, _ = peer.reset(seed=np.array([key], np.int64))
    rng, lives = np.random.default_rng(0), lanes.lives[0]
    assert lives == 5
    for _ in range(60):
        np.testing.assert_array_equal(lanes.observations[0], seen[0].transpose(1, 2, 0))
        action = int(rng.integers(4))
        reward, terminated, _ = lanes.step(0, action)
        seen, rewards, ends, *_ = peer.step(np.array([action], np.int32))
        assert (reward, terminated) == (rewards[0], ends[0])
    assert lanes.lives[0] < lives


def test_atari_is_watched_in_colour_and_comes_back_to_the_middle_of_an_episode():
    pytest.importorskip("ale_py", reason="the extra `atari` is not installed")
    watched = environments.make(Data(env="ALE/Pong-v5"), "rgb_array")
    plain = environments.make(Data(env="ALE/Pong-v5"))
    watched.reset(seed=3), plain.reset(seed=3)
    for action in (0, 2, 2, 3):
        np.testing.assert_array_equal(watched.step(action)[0], plain.step(action)[0])
    assert watched.render().shape == (210, 160, 3) and watched.render().std() > 0

    def lanes():
        return environments.Lanes(lambda: environments.make(Data(env="ALE/Pong-v5")), 1, (1, 0), 4)

    one, two = lanes(), lanes()
    for action in (2, 3, 2, 2, 5, 0):
        one.step(0, action)
    two.restore(one.state)
    np.testing.assert_array_equal(one.observations, two.observations)


def test_minatar_episodes_depend_on_their_seed_alone():
    pytest.importorskip("minatar", reason="the extra `minatar` is not installed")
    data = Data(env="MinAtar/Breakout-v1")
    assert environments.describe(data) == environments.Description((10, 10, 4), "uint8", 3, False)

    def episode(environment):
        seen = [environment.reset(seed=5)[0]]
        for action in [2, 1, 2, 2, 1, 0] * 3:
            seen.append(environment.step(action)[0])
        return np.stack(seen)

    fresh, used = environments.make(data), environments.make(data)
    for action in (1, 1, 2, 1):
        used.reset(seed=action)
        used.step(action)
    np.testing.assert_array_equal(episode(fresh), episode(used))


def test_driving():
    pytest.importorskip("highway_env", reason="the extra `driving` is not installed")
    assert environments.describe(Data(env="highway-fast-v0")).observation_shape == (5, 5)


@pytest.mark.parametrize(
    ("env", "package", "extra"),
    [
        ("ALE/Pong-v5", "ale_py", "atari"),
        ("MinAtar/Breakout-v1", "minatar", "minatar"),
        ("highway-fast-v0", "highway_env", "driving"),
        ("CartPole-v1", "gymnasium", "rl"),
    ],
)
def test_a_missing_package_is_one_sentence_with_the_line_that_brings_it(env, package, extra, monkeypatch):
    for name in [m for m in sys.modules if m.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(kzoo.RequestError, match=rf"{package}: pip install 'kzoo\[{extra}\]'"):
        environments.describe(Data(env=env))


@pytest.mark.parametrize(("env", "message"), [("ALE/Pung-v5", "no such game"), ("ALE/Pong-v4", "like ALE/Pong-v5")])
def test_an_unknown_game_is_one_sentence(env, message):
    pytest.importorskip("ale_py", reason="the extra `atari` is not installed")
    with pytest.raises(kzoo.RequestError, match=message):
        environments.make(Data(env=env))
