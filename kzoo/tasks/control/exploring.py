"""How actions are chosen while learning."""

import numpy as np

from kzoo.tasks.control.settings import Boltzmann, Exponential, Linear


def level(settings: Linear | Exponential | Boltzmann, progress: float) -> float:
    """The probability of a random action, or the temperature, at a share `progress` of the training."""
    past = progress / settings.share
    left = np.exp(-past) if isinstance(settings, Exponential) else max(0.0, 1.0 - past)
    return float(settings.final + (settings.initial - settings.final) * left)


def choose(values, settings, progress: float, count: int, actions: int, rng: np.random.Generator) -> np.ndarray:
    """Choose an action for each of several observations.

    Args:
        values: Gives Q-values, (count, actions); called only where they are needed.
        settings: The recipe's ``train.exploration``.
        progress: Share of the training that is done.
        count: Number of observations.
        actions: Number of actions.
        rng: The training's generator.
    """
    now = level(settings, progress)
    if isinstance(settings, Boltzmann):
        scaled = values() / now
        # The largest of values with Gumbel noise is a draw from their softmax.
        return (scaled + rng.gumbel(size=scaled.shape)).argmax(-1)
    chosen = rng.integers(0, actions, count)
    greedy = rng.random(count) >= now
    if greedy.any():
        chosen[greedy] = values().argmax(-1)[greedy]
    return chosen
