"""Gymnasium's environments: what they are, and several of them played side by side so that play can be gone on with."""

import hashlib
import importlib
import os
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.errors import RequestError
from kzoo.tasks.control.settings import Data

# What registers families of environments, and the extra that brings it.
_FAMILIES = (
    (re.compile(r"ALE/"), "ale_py", "atari"),
    (re.compile(r"MinAtar/"), "minatar.gym", "minatar"),
    (re.compile(r"(highway|merge|roundabout|intersection|racetrack|exit|two-way|u-turn)-"), "highway_env", "driving"),
)
# Variables one of which names a screen, where there is any.
_SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")


@dataclass(frozen=True)
class Description:
    """What an environment shows and takes.

    Attributes:
        observation_shape: Shape of an observation, a nested one flattened.
        dtype: ``uint8`` or ``float32``.
        num_actions: Number of discrete actions.
        flattened: Whether the observations are flattened from a nested or discrete space.
    """

    observation_shape: tuple[int, ...]
    dtype: str
    num_actions: int
    flattened: bool


def make(data: Data, render_mode: str | None = None, checked: bool = True):
    """Make an environment whose observations are arrays.

    Args:
        data: Which.
        render_mode: How it is drawn, if at all.
        checked: Whether Gymnasium looks at what comes of its first steps; not needed for one that was looked at.

    Raises:
        RequestError: The environment or its package is missing, or its spaces are none for a Q-network.
    """
    gymnasium = _import("gymnasium", "rl", "control")
    environment = _made(gymnasium, data, render_mode, checked)
    spaces = gymnasium.spaces
    if not isinstance(environment.action_space, spaces.Discrete):
        kind = type(environment.action_space).__name__
        raise RequestError(f"a Q-network needs discrete actions, and those of {data.env} are a {kind} space")
    if not isinstance(environment.observation_space, spaces.Box):
        environment = gymnasium.wrappers.FlattenObservation(environment)
    if not isinstance(environment.observation_space, spaces.Box):
        kind = type(environment.observation_space).__name__
        raise RequestError(f"a Q-network needs observations of one shape, and those of {data.env} are a {kind} space")
    return environment


def _made(gymnasium, data: Data, render_mode: str | None, checked: bool):
    """Register the environment's family, if it is one of those known here, and make it."""
    human = "human" in (render_mode, data.env_arguments.get("render_mode"))
    if human and sys.platform == "linux" and not any(os.environ.get(name) for name in _SCREENS):
        # SDL would end the process rather than raise an error.
        raise RequestError("there is no screen to render on: record the episodes with --video")
    # Not every environment knows the argument.
    drawn = {} if render_mode is None else {"render_mode": render_mode}
    for pattern, package, extra in _FAMILIES:
        if pattern.match(data.env):
            registering = _import(package, extra, f"data.env {data.env}")
            if package == "minatar.gym" and "MinAtar/Breakout-v1" not in gymnasium.registry:
                registering.register_envs()
    module, named, _ = data.env.partition(":")
    if named:
        _import_own(module, data.env)
    try:
        if data.env.startswith("ALE/"):
            from kzoo.tasks.control.atari import Atari

            return Atari(data.env, **drawn, **data.env_arguments)
        environment = gymnasium.make(
            data.env, disable_env_checker=None if checked else True, **drawn, **data.env_arguments
        )
    except ModuleNotFoundError as error:
        raise RequestError(f"data.env {data.env} needs {error.name}: pip install {error.name}") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise RequestError(f"data.env {data.env}: {' '.join(str(error).split())}") from None
    except (gymnasium.error.Error, TypeError, ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"data.env {data.env} cannot be made: {reason}") from None
    return _forgetful(gymnasium)(environment) if data.env.startswith("MinAtar/") else environment


def _import(package: str, extra: str, wanting: str):
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        missing = (error.name or package).partition(".")[0]
        raise RequestError(f"{wanting} needs {missing}: pip install 'kzoo[{extra}]'") from None


def _import_own(module: str, env: str) -> None:
    """Import what registers a user's own environment; it may lie in the current folder, as for `python -m`."""
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise RequestError(
            f"data.env {env} needs the module {error.name}, which is neither installed nor in {os.getcwd()}"
        ) from None
    except Exception as error:
        raise RequestError(f"data.env {env}: {module} cannot be imported: {type(error).__name__}: {error}") from error


def _forgetful(gymnasium) -> type:
    """A wrapper under which MinAtar's episodes depend on their seed alone."""

    class Forgetful(gymnasium.Wrapper):
        """Drops the last action of the episode before, which sticky actions would repeat."""

        def reset(self, **how):
            self.unwrapped.game.last_action = 0
            return self.env.reset(**how)

    return Forgetful


def describe(data: Data) -> Description:
    """Look at an environment.

    Raises:
        RequestError: See `make`.
    """
    environment = make(data)

    import gymnasium

    space = environment.observation_space
    flattened = isinstance(environment, gymnasium.wrappers.FlattenObservation)
    if data.stack > 1 and not space.shape:
        raise RequestError(f"data.stack is {data.stack}, and observations of {data.env} have no axis to stack along")
    shape = (*space.shape[:-1], space.shape[-1] * data.stack) if space.shape else ()
    found = Description(shape, np.dtype(_dtype(space)).name, int(environment.action_space.n), flattened)
    environment.close()
    return found


def _dtype(space) -> type:
    """The type in which observations are kept: bytes stay bytes, and so do truth values."""
    return np.uint8 if space.dtype in (np.uint8, np.dtype(bool)) else np.float32


class Lanes:
    """Environments played side by side, each episode on a seed of its own.

    An episode is a function of its seed and its actions, so that play goes on exactly where a killed process left off:
    `restore` plays the unfinished episodes' actions again.

    Attributes:
        observations: The current observation of each lane, (lanes, ...); stacked ones end with the newest, and before
            an episode's first there is zero.
        lives: Lives that are left in each lane, where the environment tells.
    """

    def __init__(self, factory: Callable[[], Any], count: int, seed: tuple[int, ...], stack: int = 1):
        """Make the environments and begin their first episodes.

        Args:
            factory: Makes one environment.
            count: Number of lanes.
            seed: With a lane's and an episode's number the seed of that episode.
            stack: Observations that are shown together, along the last axis.
        """
        self.environments, self.seed = [factory() for _ in range(count)], seed
        self.episodes, self.actions = [-1] * count, [[] for _ in range(count)]
        space = self.environments[0].observation_space
        self.first, self.stack = int(self.environments[0].action_space.start), stack
        # Of a scalar observation there is no last axis, and no stack.
        self.channels = space.shape[-1] if space.shape else 1
        shape = (*space.shape[:-1], self.channels * stack) if space.shape else ()
        self.observations = np.zeros((count, *shape), _dtype(space))
        self.lives = [0] * count
        for lane in range(count):
            self.reset(lane)

    def reset(self, lane: int) -> None:
        """Begin a lane's next episode."""
        self.episodes[lane] += 1
        key = np.random.SeedSequence([*self.seed, lane, self.episodes[lane]])
        seen, info = self.environments[lane].reset(seed=int(key.generate_state(1)[0]))
        if self.stack > 1:
            self.observations[lane] = 0
        self._show(lane, seen)
        self.lives[lane], self.actions[lane] = info.get("lives", 0), []

    def _show(self, lane: int, seen) -> None:
        if self.stack > 1:
            shown = self.observations[lane]
            shown[..., : -self.channels] = shown[..., self.channels :].copy()
            shown[..., -self.channels :] = seen
        else:
            self.observations[lane] = seen

    def step(self, lane: int, action: int) -> tuple[float, bool, bool]:
        """Act in a lane; a finished episode stays at its last observation until `reset`.

        Returns:
            Reward, whether the episode terminated, whether it was cut off (its last state is no end).
        """
        self.actions[lane].append(int(action))
        seen, reward, terminated, truncated, info = self.environments[lane].step(self.first + int(action))
        self._show(lane, seen)
        self.lives[lane] = info.get("lives", 0)
        return float(reward), bool(terminated), bool(truncated) and not terminated

    @property
    def state(self) -> dict[str, list]:
        """What `restore` needs, as JSON values."""
        shown = [hashlib.sha256(seen.tobytes()).hexdigest() for seen in self.observations]
        return {"episodes": list(self.episodes), "actions": [list(a) for a in self.actions], "shown": shown}

    def restore(self, state: dict[str, list]) -> list[int]:
        """Come back to where another process was.

        Returns:
            Lanes whose environment does not repeat an episode from its seed and actions; they begin their next one.
        """
        astray = []
        for lane, (episode, actions) in enumerate(zip(state["episodes"], state["actions"], strict=True)):
            self.episodes[lane] = episode - 1
            self.reset(lane)
            for action in actions:
                self.step(lane, action)
            if hashlib.sha256(self.observations[lane].tobytes()).hexdigest() != state["shown"][lane]:
                astray.append(lane)
                self.reset(lane)
        return astray

    def close(self) -> None:
        """Close the environments."""
        for environment in self.environments:
            environment.close()


def play(lanes: Lanes, act: Callable[[np.ndarray], np.ndarray], episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Play whole episodes.

    Args:
        lanes: At the beginning of their episodes.
        act: From observations to actions, one for each.
        episodes: How many; each lane plays its share, so that short episodes are not preferred.

    Returns:
        Returns (undiscounted sums of rewards) and lengths, (episodes,).
    """
    count = len(lanes.environments)
    left = [episodes // count + (lane < episodes % count) for lane in range(count)]
    returns, lengths, sums, taken = [], [], [0.0] * count, [0] * count
    playing = [lane for lane in range(count) if left[lane]]
    while playing:
        actions = act(lanes.observations[playing])
        for lane, action in zip(list(playing), actions, strict=True):
            reward, terminated, truncated = lanes.step(lane, action)
            sums[lane], taken[lane] = sums[lane] + reward, taken[lane] + 1
            if terminated or truncated:
                returns.append(sums[lane])
                lengths.append(taken[lane])
                sums[lane], taken[lane], left[lane] = 0.0, 0, left[lane] - 1
                if left[lane]:
                    lanes.reset(lane)
                else:
                    playing.remove(lane)
    return np.array(returns), np.array(lengths)
