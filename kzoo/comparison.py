"""How far two runtimes' answers to the same inputs agree."""

from typing import Any

import numpy as np

# An artefact computes the same sums, but its runtime may fuse and reorder them. One rounding of float32 is 6e-8 of a
# value, and a hundred layers that each reorder their sums stay below 1e-5 of the largest output; one wrong weight, or
# weights kept in half precision (5e-4), do not. The absolute part is a few roundings of values around 1, as inner
# activations are, for outputs that are far smaller than these.
RELATIVE_TOLERANCE = 1e-5
ABSOLUTE_TOLERANCE = 1e-6

Arrays = dict[str, np.ndarray]


def compare(expected: dict[int, Arrays], answers: dict[int, Arrays]) -> dict[str, Any]:
    """Compare one door's answers with those of the live network.

    Returns:
        ``max_difference``, ``mean_difference`` and ``tolerance`` of the output that comes nearest to its tolerance;
        ``agreement``, the share of equal decisions (labels, counts, or largest outputs), None where nothing is decided;
        ``batch_sizes``; ``ok``.
    """
    figures = {"max_difference": 0.0, "mean_difference": 0.0, "tolerance": ABSOLUTE_TOLERANCE}
    figures |= {"agreement": None, "batch_sizes": list(expected), "ok": True}
    exact, ranked = [], []
    for name in next(iter(expected.values())):
        pairs = [(values[name], answers.get(size, {}).get(name)) for size, values in expected.items()]
        if any(found is None or found.shape != live.shape or found.dtype != live.dtype for live, found in pairs):
            return {**figures, "max_difference": None, "mean_difference": None, "output": name, "ok": False}
        live, found = (np.concatenate([p.reshape(-1) for p in side]) for side in zip(*pairs, strict=True))
        if live.dtype.kind != "f":
            exact.append(live == found)
            continue
        largest, mean, tolerance = _difference(live, found)
        if largest / tolerance >= figures["max_difference"] / figures["tolerance"]:
            figures |= {"max_difference": largest, "mean_difference": mean, "tolerance": tolerance, "output": name}
        ranked += [np.argmax(a, -1).reshape(-1) == np.argmax(b, -1).reshape(-1) for a, b in pairs if _ranks(a)]
    decisions = exact or ranked
    if decisions:
        figures["agreement"] = float(np.mean(np.concatenate(decisions)))
    # Among near-equal values the largest may change within the tolerance, which is no fault; a label may not.
    figures["ok"] = figures["max_difference"] <= figures["tolerance"] and not (exact and figures["agreement"] < 1)
    return figures


def _difference(live: np.ndarray, found: np.ndarray) -> tuple[float, float, float]:
    """Largest and mean absolute difference, and the tolerance that the live values' size allows."""
    if live.size == 0:
        return 0.0, 0.0, ABSOLUTE_TOLERANCE
    finite = np.isfinite(live)
    if not np.array_equal(live[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return float("inf"), float("inf"), ABSOLUTE_TOLERANCE
    live, found = live[finite].astype(np.float64), found[finite].astype(np.float64)
    gaps = np.abs(live - found)
    scale = float(np.max(np.abs(live), initial=0))
    return float(np.max(gaps, initial=0)), float(gaps.sum() / max(gaps.size, 1)), _tolerance(scale)


def _tolerance(scale: float) -> float:
    return RELATIVE_TOLERANCE * scale + ABSOLUTE_TOLERANCE


def _ranks(values: np.ndarray) -> bool:
    return values.ndim > 1 and values.shape[-1] > 1
