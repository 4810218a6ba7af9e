"""Some of many, evenly spaced."""

import numpy as np


def spaced(length: int, count: int) -> np.ndarray:
    """At most so many places, evenly spaced from the first to the last; all where there are no more.

    Args:
        length: How many places there are.
        count: How many to take at most; of one, it is the first.

    Returns:
        int64 (places,), rising.
    """
    return np.unique(np.linspace(0, length - 1, min(count, length)).astype(int))
