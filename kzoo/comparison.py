"""How far two runtimes' answers to the same inputs agree."""

from typing import Any

import numpy as np

# Of the largest output. float32: an artefact computes the same sums, but its runtime may fuse and reorder them. One
# rounding of float32 is 6e-8 of a value, and a hundred layers that each reorder their sums stay below 1e-5; one wrong
# weight, or weights kept in half precision (5e-4), do not. float16: a rounding is 5e-4, and those of a dozen layers add
# up to a few of them. int8: a step is 1/127 of a channel's largest weight or of a tensor's range, 8e-3; what is more
# than a quarter of the largest output is no rounding but a fault, and what the rounding costs is told by the task's own
# figure on the test part, which decides (see `kzoo.export.judging`).
RELATIVE_TOLERANCES = {"float32": 1e-5, "float16": 5e-3, "int8": 0.25}
# A few roundings of values around 1, as inner activations are, for outputs that are far smaller than these.
ABSOLUTE_TOLERANCE = 1e-6
# Detections are the same where their label is, and where their boxes overlap by this IoU.
SAME_BOX = 0.99

Arrays = dict[str, np.ndarray]


def compare(expected: dict[int, Arrays], answers: dict[int, Arrays], precision: str = "float32") -> dict[str, Any]:
    """Compare one door's answers with those of the live network.

    Args:
        expected: The live network's answers by batch size.
        answers: The artefact's.
        precision: The artefact's, a key of `RELATIVE_TOLERANCES`. Only float32 has to decide alike.

    Returns:
        ``max_difference``, ``mean_difference`` and ``tolerance`` of the output that comes nearest to its tolerance;
        ``agreement``, the share of equal decisions (labels, counts, or largest outputs; of detections those that the
        other has too), None where nothing is decided; ``batch_sizes``; ``ok``.
    """
    figures = {"max_difference": 0.0, "mean_difference": 0.0, "tolerance": ABSOLUTE_TOLERANCE}
    figures |= {"agreement": None, "batch_sizes": list(expected), "ok": True}
    if not expected:
        return {**figures, "max_difference": None, "mean_difference": None, "output": "answer", "ok": False}
    detects = {"boxes", "scores", "classes", "count"} <= set(next(iter(expected.values())))
    exact, ranked = [], []
    for name in next(iter(expected.values())):
        pairs = [(values[name], answers.get(size, {}).get(name)) for size, values in expected.items()]
        if any(found is None or found.shape != live.shape or found.dtype != live.dtype for live, found in pairs):
            return {**figures, "max_difference": None, "mean_difference": None, "output": name, "ok": False}
        if detects and name != "scores":
            continue
        live, found = (np.concatenate([p.reshape(-1) for p in side]) for side in zip(*pairs, strict=True))
        if live.dtype.kind != "f":
            exact += [
                _decided(values, name, pair[1], precision)
                for values, pair in zip(expected.values(), pairs, strict=True)
            ]
            continue
        largest, mean, tolerance = _difference(live, found, precision)
        if largest / tolerance >= figures["max_difference"] / figures["tolerance"]:
            figures |= {"max_difference": largest, "mean_difference": mean, "tolerance": tolerance, "output": name}
        ranked += [np.argmax(a, -1).reshape(-1) == np.argmax(b, -1).reshape(-1) for a, b in pairs if _ranks(a)]
    if detects:
        exact = [_detected(values, answers[size]) for size, values in expected.items()]
    decisions = exact or ranked
    if decisions:
        figures["agreement"] = float(np.mean(np.concatenate(decisions)))
    # Among near-equal values the largest may change within the tolerance, which is no fault; a label may not.
    alike = figures["agreement"] is None or figures["agreement"] >= (SAME_BOX if detects else 1)
    figures["ok"] = figures["max_difference"] <= figures["tolerance"] and (alike or not exact or precision != "float32")
    return figures


def _decided(values: Arrays, name: str, found: np.ndarray, precision: str) -> np.ndarray:
    """Whether each decision is the live one, or the place of a value that is as large within the tolerance."""
    live = values[name]
    same = (live == found).reshape(-1)
    if live.ndim != 1 or live.dtype.kind not in "iu" or same.all():
        return same
    for ranking in values.values():
        fits = ranking.dtype.kind == "f" and ranking.shape[:-1] == live.shape and ranking.ndim == 2
        if fits and (ranking.argmax(-1) == live).all() and found.min() >= 0 and found.max() < ranking.shape[1]:
            rows = np.arange(len(live))
            gap = ranking[rows, live] - ranking[rows, found]
            return same | (gap <= 2 * _tolerance(float(np.abs(ranking).max()), precision))
    return same


def _detected(live: Arrays, found: Arrays) -> np.ndarray:
    """Whether each detection of either side is one of the other's too, whatever their order."""
    return np.concatenate([_found_by(live, found), _found_by(found, live), live["count"] == found["count"]])


def _found_by(some: Arrays, others: Arrays) -> np.ndarray:
    same = [np.zeros(0, bool)]
    for row, count in enumerate(some["count"]):
        boxes, theirs = some["boxes"][row, :count], others["boxes"][row, : others["count"][row]]
        alike = some["classes"][row, :count, None] == others["classes"][row, None, : len(theirs)]
        same.append((alike & (_overlap(boxes, theirs) >= SAME_BOX)).any(1) if len(theirs) else np.zeros(count, bool))
    return np.concatenate(same)


def _overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of all pairs of boxes, (first, second); of two boxes that are the same it is 1, even without an area."""
    first, second = first[:, None].astype(np.float64), second[None].astype(np.float64)
    sides = np.minimum(first[..., 2:], second[..., 2:]) - np.maximum(first[..., :2], second[..., :2])
    common = np.maximum(sides, 0).prod(-1)
    union = sum((b[..., 2:] - b[..., :2]).prod(-1) for b in (first, second)) - common
    equal = np.abs(first - second).max(-1) < 1e-3
    return np.where(equal, 1.0, common / np.maximum(union, 1e-12))


def _difference(live: np.ndarray, found: np.ndarray, precision: str) -> tuple[float, float, float]:
    """Largest and mean absolute difference, and the tolerance that the live values' size allows."""
    if live.size == 0:
        return 0.0, 0.0, ABSOLUTE_TOLERANCE
    finite = np.isfinite(live)
    if not np.array_equal(live[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return float("inf"), float("inf"), ABSOLUTE_TOLERANCE
    live, found = live[finite].astype(np.float64), found[finite].astype(np.float64)
    gaps = np.abs(live - found)
    scale = float(np.max(np.abs(live), initial=0))
    return float(np.max(gaps, initial=0)), float(gaps.sum() / max(gaps.size, 1)), _tolerance(scale, precision)


def _tolerance(scale: float, precision: str) -> float:
    return RELATIVE_TOLERANCES[precision] * scale + ABSOLUTE_TOLERANCE


def _ranks(values: np.ndarray) -> bool:
    return values.ndim > 1 and values.shape[-1] > 1
