"""Gymnasium's environments: what they are, and several of them played side by side so that play can be gone on with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.errors import RequestError
from kzoo.tasks.control.settings import Data

# What registers an environment's family, and the extra that brings it.
_EXTRAS = {"ale": "atari", "highway": "driving", "minatar": "minatar"}


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


def make(data: Data, render_mode: str | None = None):
    """Make an environment whose observations are arrays.

    Raises:
        RequestError: The environment or its package is missing, or its spaces are none for a Q-network.
    """
    try:
        import gymnasium
    except ModuleNotFoundError:
        raise RequestError("control needs gymnasium: pip install 'kzoo[rl]'") from None
    # Not every environment knows the argument.
    drawn = {} if render_mode is None else {"render_mode": render_mode}
    try:
        environment = gymnasium.make(data.env, **drawn, **data.env_arguments)
    except ModuleNotFoundError as error:
        family = data.env.partition("/")[0].partition("-")[0].lower()
        extra = next((e for prefix, e in _EXTRAS.items() if family.startswith(prefix)), "rl")
        raise RequestError(f"data.env {data.env} needs {error.name}: pip install 'kzoo[{extra}]'") from None
    except gymnasium.error.DependencyNotInstalled as error:
        raise RequestError(f"data.env {data.env}: {' '.join(str(error).split())}") from None
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(f"data.env {data.env} cannot be made: {reason}") from None
    spaces = gymnasium.spaces
    if not isinstance(environment.action_space, spaces.Discrete):
        kind = type(environment.action_space).__name__
        raise RequestError(f"a Q-network needs discrete actions, and those of {data.env} are a {kind} space")
    if not isinstance(environment.observation_space, spaces.Box):
        environment = gymnasium.wrappers.FlattenObservation(environment)
    return environment


def describe(data: Data) -> Description:
    """Look at an environment.

    Raises:
        RequestError: See `make`.
    """
    import gymnasium

    environment = make(data)
    space = environment.observation_space
    flattened = isinstance(environment, gymnasium.wrappers.FlattenObservation)
    dtype = "uint8" if space.dtype == np.uint8 else "float32"
    found = Description(tuple(space.shape), dtype, int(environment.action_space.n), flattened)
    environment.close()
    return found


class Lanes:
    """Environments played side by side, each episode on a seed of its own.

    An episode is a function of its seed and its actions, so that play goes on exactly where a killed process left off:
    `restore` plays the unfinished episodes' actions again.

    Attributes:
        observations: The current observation of each lane, (lanes, ...).
    """

    def __init__(self, factory: Callable[[], Any], count: int, seed: tuple[int, ...]):
        """Make the environments and begin their first episodes.

        Args:
            factory: Makes one environment.
            count: Number of lanes.
            seed: With a lane's and an episode's number the seed of that episode.
        """
        self.environments, self.seed = [factory() for _ in range(count)], seed
        self.episodes, self.actions = [-1] * count, [[] for _ in range(count)]
        space = self.environments[0].observation_space
        self.dtype = np.uint8 if space.dtype == np.uint8 else np.float32
        self.first = int(self.environments[0].action_space.start)
        self.observations = np.zeros((count, *space.shape), self.dtype)
        for lane in range(count):
            self.reset(lane)

    def reset(self, lane: int) -> None:
        """Begin a lane's next episode."""
        self.episodes[lane] += 1
        key = np.random.SeedSequence([*self.seed, lane, self.episodes[lane]])
        self.observations[lane] = self.environments[lane].reset(seed=int(key.generate_state(1)[0]))[0]
        self.actions[lane] = []

    def step(self, lane: int, action: int) -> tuple[float, bool, bool]:
        """Act in a lane; a finished episode stays at its last observation until `reset`.

        Returns:
            Reward, whether the episode terminated, whether it was cut off (its last state is no end).
        """
        self.actions[lane].append(int(action))
        seen, reward, terminated, truncated, _ = self.environments[lane].step(self.first + int(action))
        self.observations[lane] = seen
        return float(reward), bool(terminated), bool(truncated) and not terminated

    @property
    def state(self) -> dict[str, list]:
        """What `restore` needs, as JSON values."""
        return {"episodes": list(self.episodes), "actions": [list(a) for a in self.actions]}

    def restore(self, state: dict[str, list]) -> None:
        """Come back to where another process was."""
        for lane, (episode, actions) in enumerate(zip(state["episodes"], state["actions"], strict=True)):
            self.episodes[lane] = episode - 1
            self.reset(lane)
            for action in actions:
                self.step(lane, action)

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
