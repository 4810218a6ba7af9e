"""How many objects of a data set default boxes can match, and shapes that would fit them better."""

from collections.abc import Sequence

import numpy as np

from kzoo import boxes as rectangles
from kzoo.data.spacing import spaced

# Upper edges of the sizes, as the square root of the area in pixels of the network's input.
SIZES = {"tiny": 16.0, "small": 32.0, "medium": 96.0, "large": float("inf")}
# Overlap that is usual for matching.
_USUAL = 0.5
_MOST = 20000  # objects that are looked at
_ROUNDS = 300


def report(
    objects: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    default_boxes: np.ndarray,
    size: tuple[int, int],
    overlap: float,
) -> list[dict]:
    """Objects by class and size, and how well their best default box covers them.

    Args:
        objects: float (objects, 4), corners in shares of the network's input.
        labels: int (objects,), places among the classes.
        classes: Class names.
        default_boxes: (count, 4), centres in shares.
        size: Height and width of the network's input in pixels.
        overlap: The recipe's least IoU for a match.

    Returns:
        For each class all sizes and each that occurs, then for all classes together: ``class``, ``size``, ``objects``,
        ``width`` and ``height``, medians in pixels of the input, ``matched``, the share with a default box of at least
        the recipe's IoU, ``matched_50``, the share with one of at least 0.5, and ``mean_iou`` with the best one.
    """
    pixels = objects * np.tile([size[1], size[0]], 2)
    best = best_overlaps(objects, default_boxes)
    sides = pixels[:, 2:] - pixels[:, :2]
    root = np.sqrt(sides.prod(1))
    rows = []
    for label, name in [*enumerate(classes), (None, "all")]:
        mine = np.ones(len(labels), bool) if label is None else labels == label
        low = 0.0
        for called, high in (("all", float("inf")), *SIZES.items()):
            chosen = mine & (root >= (0.0 if called == "all" else low)) & (root < high)
            low = low if called == "all" else high
            if not chosen.any():
                continue
            width, height = np.median(sides[chosen], 0)
            rows.append(
                {
                    "class": name,
                    "size": called,
                    "objects": int(chosen.sum()),
                    "width": round(float(width), 1),
                    "height": round(float(height), 1),
                    "matched": float((best[chosen] >= overlap).mean()),
                    "matched_50": float((best[chosen] >= _USUAL).mean()),
                    "mean_iou": float(best[chosen].mean()),
                }
            )
    return rows


def best_overlaps(objects: np.ndarray, default_boxes: np.ndarray) -> np.ndarray:
    """The greatest IoU of each object, corners (objects, 4), with a default box, centres (count, 4), in shares.

    The ratio of two areas does not depend on the unit of either axis.
    """
    corners = rectangles.to_corners(default_boxes.astype(np.float64))
    found = np.zeros(len(objects))
    for start in range(0, len(objects), 64):
        found[start : start + 64] = rectangles.iou(objects[start : start + 64].astype(np.float64), corners).max(1)
    return found


def sample(objects: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most so many objects as can be looked at in seconds, evenly spaced."""
    places = spaced(len(objects), _MOST)
    return objects[places], labels[places]


def shapes(sides: np.ndarray, count: int, seed: int = 0) -> tuple[np.ndarray, float]:
    """Shapes that cover objects best: k-means under 1 - IoU of boxes with one centre (arXiv 1612.08242, section 2).

    Args:
        sides: (objects, 2), widths and heights.
        count: How many shapes.
        seed: Of the first guess.

    Returns:
        (shapes, 2), the smallest first, fewer than `count` where there are fewer different objects; and the mean IoU of
        the objects with their best shape.
    """
    rng = np.random.default_rng(seed)
    distinct = np.unique(sides, axis=0)
    centres = distinct[rng.choice(len(distinct), min(count, len(distinct)), replace=False)]
    before = None
    for _ in range(_ROUNDS):
        overlap = _concentric(sides, centres)
        nearest = overlap.argmax(1)
        if before is not None and (nearest == before).all():
            break
        before = nearest
        # The median bears a few huge objects better than the mean.
        centres = np.stack(
            [np.median(sides[nearest == k], 0) if (nearest == k).any() else centres[k] for k in range(len(centres))]
        )
    order = np.argsort(centres.prod(1))
    return centres[order], float(_concentric(sides, centres).max(1).mean())


def _concentric(sides: np.ndarray, centres: np.ndarray) -> np.ndarray:
    common = np.minimum(sides[:, None], centres[None]).prod(-1)
    return common / (sides.prod(-1)[:, None] + centres.prod(-1)[None] - common)
