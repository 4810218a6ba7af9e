"""How good a policy is, from the returns of its episodes."""

from pathlib import Path
from typing import Any

import numpy as np

from kzoo.files import atomic


def judge(returns: np.ndarray, lengths: np.ndarray, resamples: int = 10_000) -> dict[str, Any]:
    """Figures of whole episodes.

    Args:
        returns: Undiscounted sums of rewards, (episodes,).
        lengths: Steps, (episodes,).
        resamples: Of the bootstrap.

    Returns:
        ``return`` (the mean), its ``std``, ``min``, ``median``, ``max``, and ``low`` and ``high``, the bounds of the
        mean's 95 % interval by the bootstrap's percentiles; ``length``; ``episodes``; ``returns``, each one.
    """
    rng = np.random.default_rng(0)
    means = returns[rng.integers(0, len(returns), (resamples, len(returns)))].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return {
        "return": float(returns.mean()),
        "std": float(returns.std(ddof=1)) if len(returns) > 1 else 0.0,
        "min": float(returns.min()),
        "median": float(np.median(returns)),
        "max": float(returns.max()),
        "low": float(low),
        "high": float(high),
        "length": float(lengths.mean()),
        "episodes": len(returns),
        "returns": [float(r) for r in returns],
    }


def draw_returns(returns: list[float], path: Path) -> Path:
    """Draw the distribution of returns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(returns, bins=20)
    axes.set_xlabel("return")
    axes.set_ylabel("episodes")
    with atomic(path) as temporary:
        figure.savefig(temporary, dpi=120)
    return path
