"""How actions are chosen while learning."""

from collections.abc import Callable

import numpy as np

from kzoo.tasks.control.settings import Boltzmann, Exponential, Linear


def level(settings: Linear | Exponential | Boltzmann, progress):
    """The probability of a random action, or the temperature, at a share `progress` of the training, or several."""
    past = np.asarray(progress) / settings.share
    left = np.exp(-past) if isinstance(settings, Exponential) else np.maximum(0.0, 1.0 - past)
    return settings.final + (settings.initial - settings.final) * left


class Chooser:
    """Chooses the actions of some steps, whose chance is drawn at once: a draw costs more than its numbers."""

    def __init__(self, settings, progress: np.ndarray, count: int, actions: int, rng: np.random.Generator):
        """Draw.

        Args:
            settings: The recipe's ``train.exploration``.
            progress: Share of the training that is done before each step, (steps,).
            count: Number of observations of a step.
            actions: Number of actions.
            rng: The training's generator.
        """
        shape, now = (len(progress), count), level(settings, progress)
        self.temperatures = now if isinstance(settings, Boltzmann) else None
        if self.temperatures is not None:
            # The largest of values with Gumbel noise is a draw from their softmax.
            self.noise = rng.gumbel(size=(*shape, actions))
            return
        self.random = rng.integers(0, actions, shape)
        self.greedy = rng.random(shape) >= now[:, None]
        self.any, self.all = self.greedy.any(1).tolist(), self.greedy.all(1).tolist()

    def __call__(self, step: int, values: Callable[[np.ndarray], np.ndarray], observations: np.ndarray) -> np.ndarray:
        """Actions of a step, (count,).

        Args:
            step: Its number, counted from 0.
            values: From observations to Q-values; called only where they are needed.
            observations: (count, ...).
        """
        if self.temperatures is not None:
            return (values(observations) / self.temperatures[step] + self.noise[step]).argmax(-1)
        if not self.any[step]:
            return self.random[step]
        best = values(observations).argmax(-1)
        return best if self.all[step] else np.where(self.greedy[step], best, self.random[step])
