"""Q-networks in Gymnasium's environments: from a recipe to a trained and judged policy."""

import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import console
from kzoo.errors import RequestError
from kzoo.recipe import from_values
from kzoo.run import Run
from kzoo.tasks import base, optimizers, precision
from kzoo.tasks.control import environments, figures, replay
from kzoo.tasks.control.training import TEST, VALIDATION, Training, play_episodes

# Observations that exports are verified with: at most so many, so many bytes as float32 and so many seconds of play,
# but never fewer than the least.
SAMPLES, MOST_BYTES, MOST_SECONDS, LEAST = 1000, 16_000_000, 3.0, 32
_PARTS = {"validation": VALIDATION, "test": TEST}


class Task(base.Task):
    """A control recipe at work."""

    default_monitor = "val_return"

    def open(self) -> None:
        """Look at the environment, and resolve observations, actions and precision."""
        optimizers.check(self.recipe.train)
        recipe, self.seen = self.recipe, environments.describe(self.recipe.data)
        if self.seen.flattened:
            console.say(f"the observations of {recipe.data.env} are flattened to {self.seen.observation_shape}")
        values = recipe.values()
        for key, found in (
            ("observation_shape", list(self.seen.observation_shape)),
            ("num_actions", self.seen.num_actions),
        ):
            given = values["arguments"].get(key)
            if given is not None and given != found:
                raise RequestError(f"arguments.{key} is {given}, and {recipe.data.env} has {found}")
            if self.takes(key):
                values["arguments"][key] = found
        if self.takes("dtype_policy"):
            values["arguments"].setdefault("dtype_policy", precision.policy(recipe.train.precision))
        if recipe.train.train_every % recipe.data.num_envs:
            raise RequestError(
                f"train.train_every is {recipe.train.train_every}, and {recipe.data.num_envs} environments play "
                "side by side: it must be a multiple of data.num_envs"
            )
        if recipe.train.evaluate_every < recipe.train.train_every:
            raise RequestError("train.evaluate_every must be at least train.train_every")
        self.recipe = from_values(values, name=recipe.name)

    def start(self, *, fresh: bool = True):
        """See `kzoo.tasks.base.Task.start`; also that the replay memory fits into the machine."""
        self._check_memory()
        return super().start(fresh=fresh)

    def _check_memory(self) -> None:
        import psutil

        stack = self.recipe.data.stack
        size = replay.megabytes(self.recipe.train.capacity, self.seen.observation_shape, self.seen.dtype, stack)
        free = psutil.virtual_memory().available / 1e6
        if size > free:
            raise RequestError(
                f"the replay memory takes {size / 1e3:.1f} GB, and {free / 1e3:.1f} GB are free: lower train.capacity"
            )
        if size > 100:
            console.say(f"the replay memory takes {size / 1e3:.2f} GB")

    def card(self) -> dict[str, Any]:
        """Model, arguments, environment and observations."""
        return self.common_card(
            environment={
                "env": self.recipe.data.env,
                "env_arguments": self.recipe.data.env_arguments,
                "stack": self.recipe.data.stack,
                "observation_shape": list(self.seen.observation_shape),
                "dtype": self.seen.dtype,
                "num_actions": self.seen.num_actions,
            }
        )

    def samples(self) -> dict[str, np.ndarray]:
        """Observations of an episode played at random."""
        lanes = environments.Lanes(
            lambda: environments.make(self.recipe.data), 1, (self.recipe.train.seed, 4), self.recipe.data.stack
        )
        rng, found, began = np.random.default_rng(0), [], time.perf_counter()
        wanted = max(LEAST, min(SAMPLES, MOST_BYTES // (4 * max(1, int(np.prod(self.seen.observation_shape))))))
        with contextlib.closing(lanes):
            while len(found) < wanted and (len(found) < LEAST or time.perf_counter() - began < MOST_SECONDS):
                found.append(lanes.observations[0].copy())
                _, terminated, truncated = lanes.step(0, int(rng.integers(self.seen.num_actions)))
                if terminated or truncated:
                    lanes.reset(0)
        return {"observations": np.stack(found)}

    def fit(self, model, run: Run, until: int | None = None) -> dict[str, Any] | None:
        """Act and learn; leave the best evaluation's weights in the model."""
        epochs = self.recipe.train.epochs
        with contextlib.closing(Training(self.recipe, run, model, self.build(), self.monitor)) as training:
            training.restore()
            if training.steps:
                console.say(f"going on after step {training.steps:,} of {self.recipe.train.steps:,}")
            training.go(min(until or epochs, epochs))
            return training.finish() if training.epoch >= epochs else None

    @property
    def splits(self) -> set[str]:
        """Episodes on the seeds of the evaluations while training, and on seeds of their own."""
        return set(_PARTS)

    def evaluate(self, model, split: str, episodes: int | None = None) -> dict[str, Any]:
        """Returns over whole episodes of the greedy policy, ``train.test_episodes`` unless told otherwise."""
        if split not in _PARTS:
            raise RequestError(f"control has no {split} part; it has {', '.join(sorted(_PARTS))}")
        train = self.recipe.train
        returns, lengths = play_episodes(self.recipe, model, episodes or train.test_episodes, _PARTS[split], train.seed)
        return figures.judge(returns, lengths)

    def draw(self, found: dict[str, Any], folder: Path) -> list[Path]:
        """The returns' distribution as a PNG."""
        return [figures.draw_returns(found["returns"], folder / "returns.png")]
