"""The median rule: which trials look hopeless (Golovin et al. 2017, Google Vizier, section 3.2)."""

import statistics
from collections.abc import Collection, Sequence

_ENOUGH = 5  # completed trials before a median says anything


def looks_hopeless(curve: Sequence[float], others: Collection[Sequence[float]], sign: int, warmup: int) -> bool:
    """Whether a trial's best value so far is worse than the median of others after the same number of epochs.

    Args:
        curve: Values of the trial under way, one for each epoch.
        others: Those of completed trials.
        sign: 1 where more is better, -1 where less is.
        warmup: Epochs that every trial gets.
    """
    if len(curve) <= warmup or len(others) < _ENOUGH:
        return False
    known = [sign * other[len(curve) - 1] for other in others if len(other) >= len(curve)]
    return bool(known) and max(sign * value for value in curve) < statistics.median(known)
