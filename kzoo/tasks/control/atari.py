"""Atari games by ale-py's own vector environment, one game each, with the usual preprocessing.

No-op starts, four frames for an action, the maximum of the last two, 84x84 grey pixels (Mnih et al. 2015, Nature 518,
p. 529; Machado et al. 2018, arXiv 1709.06009, section 5). Frames are stacked by `Lanes`, so that the replay memory can
keep each of them once.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from ale_py import roms
from ale_py.registration import rom_id_to_name
from ale_py.vector_env import AtariVectorEnv

PREFIX = "ALE/"


class Atari(gymnasium.Env):
    """One game that shows 84x84 grey frames, (84, 84, 1)."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 15}

    def __init__(self, name: str, render_mode: str | None = None, **arguments: Any):
        """Start the emulator.

        Args:
            name: Such as ``ALE/Pong-v5``.
            render_mode: ``rgb_array`` plays the same game in colour beside it, for `render`.
            **arguments: Of ``ale_py.vector_env.AtariVectorEnv``; actions are not repeated at random unless
                ``repeat_action_probability`` says so.

        Raises:
            ValueError: There is no such game.
        """
        game = _games().get(name.removeprefix(PREFIX).partition("-")[0])
        if game is None or not name.endswith("-v5"):
            raise ValueError("ale-py has no such game; ids are like ALE/Pong-v5")
        self.render_mode = render_mode
        fixed = {"stack_num": 1, "num_threads": 1, "reward_clipping": False, "num_envs": 1}
        self.game = AtariVectorEnv(game, **{**arguments, **fixed})
        # The emulator follows its seed and its actions, so a second one shows the same episode as people see it.
        colour = {"grayscale": False, "img_height": 210, "img_width": 160}
        self.watched = AtariVectorEnv(game, **{**arguments, **fixed, **colour}) if render_mode else None
        self.action_space = self.game.single_action_space
        self.observation_space = gymnasium.spaces.Box(0, 255, _shape(self.game), np.uint8)
        self.picture = None

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        """Begin an episode; the same seed and actions give the same one."""
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31)) if seed is None else seed % 2**31
        seen, info = self.game.reset(seed=np.array([seed]))
        if self.watched:
            self.picture = self.watched.reset(seed=np.array([seed]))[0][0, 0]
        return self._seen(seen), {"lives": int(info["lives"][0])}

    def step(self, action: int):
        """Hold an action for four frames."""
        actions = np.array([action], np.int32)
        seen, rewards, terminated, truncated, info = self.game.step(actions)
        if self.watched:
            self.picture = self.watched.step(actions)[0][0, 0]
        lives = {"lives": int(info["lives"][0])}
        return self._seen(seen), float(rewards[0]), bool(terminated[0]), bool(truncated[0]), lives

    def render(self):
        """The game in colour, uint8 (210, 160, 3)."""
        return self.picture

    def close(self):
        """Stop the emulators."""
        for game in (self.game, self.watched):
            if game is not None:
                game.close()

    def _seen(self, seen: np.ndarray) -> np.ndarray:
        return seen[0, 0].reshape(self.observation_space.shape)


def _games() -> dict[str, str]:
    """Names of ROMs by the names that Gymnasium gives them."""
    return {rom_id_to_name(rom): rom for rom in roms.get_all_rom_ids()}


def _shape(game: AtariVectorEnv) -> tuple[int, ...]:
    shape = game.single_observation_space.shape[1:]
    return shape if len(shape) == 3 else (*shape, 1)
