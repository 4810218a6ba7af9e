"""The training: act, remember, take gradient steps, evaluate, write a checkpoint."""

import functools
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import console
from kzoo.errors import RequestError, WorkError
from kzoo.files import atomic
from kzoo.run import Run
from kzoo.tasks import optimizers
from kzoo.tasks.callbacks import clock, higher_is_better
from kzoo.tasks.control import acting, environments, exploring
from kzoo.tasks.control.learner import Learner
from kzoo.tasks.control.priorities import PrioritisedReplay
from kzoo.tasks.control.replay import Batch, Replay
from kzoo.tasks.control.settings import Recipe
from kzoo.weights import load_checkpoint, save_checkpoint

# Parts of the key of an episode's seed, so that training, validation and test play different episodes.
TRAINING, VALIDATION, TEST = 0, 1, 2
EVALUATION_LANES = 10


class Training:
    """A training between two of its gradient steps.

    Attributes:
        epoch: Evaluations so far.
        steps: Steps in the environments so far.
        updates: Gradient steps so far.
        best: The best evaluation's monitored figure, None before the first, and its number, counted from 1.
    """

    def __init__(self, recipe: Recipe, run: Run, online, target, monitor: str):
        """Set up; nothing is played yet.

        Args:
            recipe: The resolved recipe.
            run: Where checkpoints and figures go.
            online: The network to train, holding its first weights.
            target: A network of the same form.
            monitor: The figure that chooses the best checkpoint.
        """
        self.recipe, self.run, self.monitor = recipe, run, monitor
        self.settings, data = recipe.train, recipe.data
        self.burst = self.settings.train_every
        optimizer = optimizers.build(
            self.settings,
            self.settings.evaluate_every / self.burst * self.settings.gradient_steps,
            recipe.arguments.get("dtype_policy", "float32"),
            fused=True,
        )
        self.learner = Learner(online, target, optimizer, self.settings)
        self.lanes = environments.Lanes(
            lambda: environments.make(data, checked=False), data.num_envs, (self.settings.seed, TRAINING), data.stack
        )
        self.policy, self.actions = acting.values_of(online), int(online.outputs[0].shape[-1])
        self.replay = self._memory()
        self.rng = np.random.default_rng([self.settings.seed, 3])
        self.epoch, self.steps, self.updates, self.seconds = 0, 0, 0, 0.0
        self.sums, self.finished, self.losses = [0.0] * data.num_envs, [], []
        self.best, self.best_epoch = None, 0

    def _memory(self) -> Replay:
        settings, seen = self.settings, self.lanes.observations
        data = self.recipe.data
        how = (data.num_envs, seen.shape[1:], seen.dtype, settings.n_step, settings.discount, data.stack)
        if settings.prioritised:
            return PrioritisedReplay(settings.capacity, *how, alpha=settings.prioritised.alpha)
        return Replay(settings.capacity, *how)

    def go(self, until: int) -> None:
        """Train up to this many evaluations in all."""
        began, before = time.perf_counter(), self.seconds
        while self.epoch < until:
            started, first = time.perf_counter(), self.steps
            wanted = self._end(self.epoch)
            while self.steps < wanted:
                self._act(min(self.burst, wanted - self.steps))
                if self.steps > self.settings.starts:
                    self._learn()
            speed = (self.steps - first) / max(time.perf_counter() - started, 1e-9)
            self.epoch += 1
            self._evaluate(speed, before + time.perf_counter() - began)
            self.seconds = before + time.perf_counter() - began
            self._save()

    def close(self) -> None:
        """Close the environments."""
        self.lanes.close()

    def _end(self, epoch: int) -> int:
        """Steps after which an evaluation comes: the first whole burst in which it is due, or all there are."""
        due = self.settings.evaluate_every * (epoch + 1)
        return min(-(-due // self.burst) * self.burst, self.settings.steps)

    def _act(self, steps: int) -> None:
        """Play this many steps, in all lanes together."""
        count = len(self.sums)
        rounds = max(1, steps // count)
        progress = (self.steps + count * np.arange(rounds)) / self.settings.steps
        choose = exploring.Chooser(self.settings.exploration, progress, count, self.actions, self.rng)
        for number in range(rounds):
            for lane, action in enumerate(choose(number, self.policy, self.lanes.observations).tolist()):
                self._step(lane, action)
            self.steps += count

    def _step(self, lane: int, action: int) -> None:
        before, lives = self.lanes.observations[lane].copy(), self.lanes.lives[lane]
        reward, terminated, truncated = self.lanes.step(lane, action)
        self.sums[lane] += reward
        learnt = float(np.sign(reward)) if self.settings.clip_rewards else reward
        lost = self.settings.life_loss_ends and self.lanes.lives[lane] < lives
        self.replay.add(lane, before, action, learnt, terminated or lost)
        if terminated or truncated:
            self.replay.end(lane, self.lanes.observations[lane])
            self.finished.append(self.sums[lane])
            self.sums[lane] = 0.0
            self.lanes.reset(lane)

    def _learn(self) -> None:
        count, size = self.settings.gradient_steps, self.recipe.data.batch_size
        try:
            drawn = self._draw(count * size)
        except ValueError:  # the first transitions are not complete yet
            return
        parts = {k: v.reshape(count, size, *v.shape[1:]) for k, v in vars(drawn).items()}
        loss, errors = self.learner.learn(Batch(**parts), self.updates)
        self.policy.refresh(self.learner.flat)
        self.updates += count
        self.losses.append(loss)
        if self.settings.prioritised:
            self.replay.update(parts["places"], errors)

    def _draw(self, size: int) -> Batch:
        prioritised = self.settings.prioritised
        if not prioritised:
            return self.replay.sample(self.rng, size)
        progress = min(1.0, self.steps / self.settings.steps)
        return self.replay.draw(self.rng, size, prioritised.beta + (1 - prioritised.beta) * progress)

    def _evaluate(self, speed: float, seconds: float) -> None:
        """Play the validation episodes; keep the weights if they are the best so far; write and say the figures."""
        with self.learner.averaged() as model:
            figures = self._judge(model)
            value, sign = figures[self.monitor], 1 if higher_is_better(self.monitor) else -1
            if self.best is None or sign * value >= sign * self.best:
                self.best, self.best_epoch = value, self.epoch
                save_checkpoint(self.run.checkpoint("best"), model, {"epoch": self.epoch})
        rate = optimizers.learning_rate(self.learner.optimizer)
        self.run.append_metrics(
            {"epoch": self.epoch - 1, **figures, "learning_rate": rate, "seconds": round(seconds, 2)}
        )
        self._tell(figures, speed, seconds)
        self.finished, self.losses = [], []

    def _judge(self, model) -> dict[str, float]:
        """Figures of the training since the last evaluation, and of the validation episodes."""
        returns, lengths = play_episodes(self.recipe, model, self.settings.episodes, VALIDATION, self.settings.seed)
        loss = float(np.mean(self.losses)) if self.losses else 0.0
        if not np.isfinite(loss):
            raise WorkError(
                f"the loss is {loss} after {self.steps} steps: lower train.optimizer.learning_rate or set "
                "train.gradient_clip; the checkpoint before is kept"
            )
        return {
            "steps": self.steps,
            "updates": self.updates,
            "loss": loss,
            "return": float(np.mean(self.finished)) if self.finished else 0.0,
            "exploration": float(exploring.level(self.settings.exploration, self.steps / self.settings.steps)),
            "val_return": float(returns.mean()),
            "val_length": float(lengths.mean()),
        }

    def _tell(self, figures: dict, speed: float, seconds: float) -> None:
        self._board(figures)
        left = seconds / self.epoch * (self.settings.epochs - self.epoch)
        told = "  ".join(
            f"{k} {figures[k]:.{digits}f}"
            for k, digits in (("return", 1), ("val_return", 1), ("exploration", 3), ("loss", 4))
        )
        place = f"step {self.steps:,}/{self.settings.steps:,}"
        console.say(f"{place}  {told}  {speed:,.0f} steps/s  {clock(left)} left")

    def _board(self, figures: dict) -> None:
        import tensorflow as tf

        if not hasattr(self, "_writer"):
            self._writer = tf.summary.create_file_writer(str(self.run.path / "tensorboard"))
        with self._writer.as_default():
            for name, value in figures.items():
                tf.summary.scalar(name, value, step=self.steps)
        self._writer.flush()

    # --- going on after a kill ------------------------------------------------------------------------------------

    def _save(self) -> None:
        """Write the memory, then the checkpoint that names it: a kill in between leaves the former pair."""
        memory = self._memory_path(self.epoch)
        with atomic(memory) as temporary, open(temporary, "wb") as handle:
            np.savez(handle, **self.replay.arrays())
        document = {
            "epoch": self.epoch,
            "steps": self.steps,
            "updates": self.updates,
            "seconds": self.seconds,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "sums": self.sums,
            "lanes": self.lanes.state,
            "rng": self.rng.bit_generator.state,
        }
        save_checkpoint(self.run.checkpoint("last"), self.learner, document, self.learner.optimizer)
        for old in memory.parent.glob("replay-*.npz"):
            if old != memory:
                old.unlink()

    def _memory_path(self, epoch: int) -> Path:
        return self.run.checkpoint("last").parent / f"replay-{epoch}.npz"

    def restore(self) -> None:
        """Go on from the run's last checkpoint, if there is one; drop rows of evaluations that come again."""
        path = self.run.checkpoint("last")
        if not path.is_file():
            self.run.write_metrics([])
            return
        known = load_checkpoint(path, self.learner, self.learner.optimizer)
        self.policy.refresh()
        for key in ("epoch", "steps", "updates", "seconds", "best", "best_epoch", "sums"):
            setattr(self, key, known[key])
        self.rng.bit_generator.state = known["rng"]
        # One that was killed in its final test may have dropped its memory, which it needs no more.
        if self.epoch < self.settings.epochs:
            self._remember()
            self._rejoin(known["lanes"])
        self.run.write_metrics(self.run.metrics(before_epoch=self.epoch))
        self.run.sweep()

    def _remember(self) -> None:
        """Read the memory that belongs to the checkpoint."""
        memory = self._memory_path(self.epoch)
        try:
            with np.load(memory) as arrays:
                self.replay.restore(arrays)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise RequestError(f"the replay memory {memory} cannot be read: {error}") from None

    def _rejoin(self, state: dict) -> None:
        """Bring the environments back to where they were, as far as they can be."""
        astray = self.lanes.restore(state)
        for lane in astray:
            self.replay.cut(lane)
            self.sums[lane] = 0.0
        if astray:
            console.say(
                f"{self.recipe.data.env} does not repeat an episode from its seed and actions: the unfinished ones are "
                "dropped, and the training goes on, but not as the uninterrupted one would"
            )

    def finish(self) -> dict[str, Any]:
        """Judge the last policy, leave the best weights in the online network, and drop the memory.

        Returns:
            Figures for ``summary.json``; ``final_return`` is the last policy's over the test episodes.
        """
        with self.learner.averaged() as model:
            returns, _ = play_episodes(self.recipe, model, self.settings.test_episodes, TEST, self.settings.seed)
        load_checkpoint(self.run.checkpoint("best"), self.learner.online)
        for memory in self.run.checkpoint("last").parent.glob("replay-*.npz"):
            memory.unlink()
        return {
            "epochs": self.epoch,
            "steps": self.steps,
            "updates": self.updates,
            "seconds": self.seconds,
            "best_epoch": self.best_epoch,
            self.monitor: self.best,
            "final_return": float(returns.mean()),
        }


def play_episodes(recipe: Recipe, model, episodes: int, part: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Play whole episodes greedily, or nearly so, on seeds that no other part uses; (episodes,) returns and lengths."""
    values, level = acting.values_of(model), recipe.train.judged_exploration
    rng, actions = np.random.default_rng([seed, part, 6]), int(model.outputs[0].shape[-1])
    count = min(EVALUATION_LANES, episodes)
    factory = functools.partial(environments.make, recipe.data, checked=False)
    lanes = environments.Lanes(factory, count, (seed, part), recipe.data.stack)

    def act(seen: np.ndarray) -> np.ndarray:
        best = values(seen).argmax(-1)
        if not level:
            return best
        return np.where(rng.random(len(best)) < level, rng.integers(0, actions, len(best)), best)

    try:
        return environments.play(lanes, act, episodes)
    finally:
        lanes.close()
