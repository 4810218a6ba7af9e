"""COCO's average precision (Lin et al. 2014, cocodataset.org/#detection-eval), and precision and recall by score."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kzoo import boxes as rectangles
from kzoo.data.detection.truth import ANY, Truth
from kzoo.tasks.detection.detections import Detections

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
# Areas in pixels of the picture, and most detections of a class in a picture.
AREAS = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MOST = 100


@dataclass(frozen=True)
class Matched:
    """All detections of a class, the most probable first, held against the truth.

    Attributes:
        scores: float (detections,).
        true: bool (thresholds, detections): matched with an object that counts.
        ignored: bool (thresholds, detections): neither right nor wrong.
        objects: Number of objects that count.
    """

    scores: np.ndarray
    true: np.ndarray
    ignored: np.ndarray
    objects: int

    def curve(self, threshold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Precision, recall and score at each detection that counts."""
        counts = ~self.ignored[threshold]
        true = self.true[threshold][counts]
        right, wrong = np.cumsum(true), np.cumsum(~true)
        return right / np.maximum(right + wrong, 1), right / max(self.objects, 1), self.scores[counts]


def match(
    truths: Sequence[Truth],
    found: Sequence[Detections],
    label: int,
    *,
    area: tuple[float, float] = AREAS["all"],
    thresholds: np.ndarray = THRESHOLDS,
) -> Matched:
    """Match the detections of one class with its objects, picture by picture, the most probable detection first.

    Each takes the free object that it overlaps most; an ignored one only where no other is left, and a region however
    often. Objects and unmatched detections whose area is out of range are ignored.

    Args:
        truths: Objects of each picture.
        found: Detections of each picture, in pixels as the truth is.
        label: The class.
        area: Least and greatest area.
        thresholds: IoUs from which on an object is found.
    """
    parts, objects = [], 0
    for truth, detections in zip(truths, found, strict=True):
        chosen = np.flatnonzero(detections.labels == label)
        chosen = chosen[np.argsort(-detections.scores[chosen], kind="stable")][:MOST]
        mine = np.flatnonzero((truth.labels == label) | (truth.labels == ANY))
        own = truth.boxes[mine].astype(np.float64)
        sizes = rectangles.area(own)
        ignored = truth.ignored[mine] | (sizes < area[0]) | (sizes > area[1])
        objects += int((~ignored).sum())
        if not len(chosen):
            continue
        order = np.argsort(ignored, kind="stable")
        boxes = detections.boxes[chosen].astype(np.float64)
        overlap = _overlap(boxes, own[order], truth.regions[mine][order])
        true, skipped = _assign(overlap, ignored[order], truth.regions[mine][order], thresholds)
        own_area = rectangles.area(boxes)
        skipped |= ~true & ((own_area < area[0]) | (own_area > area[1]))[None]
        parts.append((detections.scores[chosen], true, skipped))
    if not parts:
        empty = np.zeros((len(thresholds), 0), bool)
        return Matched(np.zeros(0), empty, empty, objects)
    scores, true, skipped = (np.concatenate(p, -1) for p in zip(*parts, strict=True))
    order = np.argsort(-scores, kind="stable")
    return Matched(scores[order], true[:, order], skipped[:, order], objects)


def average_precision(matched: Matched) -> np.ndarray:
    """Interpolated precision averaged over 101 recalls, for each threshold; NaN without objects."""
    if not matched.objects:
        return np.full(len(matched.true), np.nan)
    values = np.zeros(len(matched.true))
    for threshold in range(len(matched.true)):
        precision, recall, _ = matched.curve(threshold)
        # The best precision at this recall or a higher one.
        best = np.maximum.accumulate(precision[::-1])[::-1]
        places = np.searchsorted(recall, RECALLS, side="left")
        values[threshold] = np.append(best, 0.0)[np.minimum(places, len(best))].mean()
    return values


def summary(truths: Sequence[Truth], found: Sequence[Detections], classes: Sequence[str]) -> dict[str, float]:
    """COCO's headline figures: ``map``, ``map50``, ``map75``, and ``map_small`` and so on; NaN without objects."""
    figures = {}
    for name, area in AREAS.items():
        values = np.stack([average_precision(match(truths, found, label, area=area)) for label in range(len(classes))])
        figures["map" if name == "all" else f"map_{name}"] = _mean(values)
        if name == "all":
            figures["map50"], figures["map75"] = _mean(values[:, 0]), _mean(values[:, 5])
    return figures


def operating_points(matched: Sequence[Matched], threshold: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision and recall over all classes together at every score, falling.

    Returns:
        Scores, precision, recall.
    """
    scores = np.concatenate([m.scores[~m.ignored[threshold]] for m in matched])
    true = np.concatenate([m.true[threshold][~m.ignored[threshold]] for m in matched])
    order = np.argsort(-scores, kind="stable")
    right = np.cumsum(true[order])
    objects = max(sum(m.objects for m in matched), 1)
    return scores[order], right / np.arange(1, len(right) + 1), right / objects


def best_threshold(matched: Sequence[Matched], threshold: int = 0) -> float:
    """The least score at which F1 over all classes is highest; 0.5 where nothing was found."""
    scores, precision, recall = operating_points(matched, threshold)
    if not len(scores):
        return 0.5
    # Detections of the same score come and go together.
    last = np.append(scores[1:] < scores[:-1], True)
    f1 = np.where(last, f1_of(precision, recall), -1)
    return float(scores[int(np.argmax(f1))])


def at_threshold(matched: Matched, score: float, threshold: int = 0) -> dict[str, float]:
    """``precision``, ``recall``, ``f1`` and ``support`` (objects) of the detections with at least this score."""
    counts = ~matched.ignored[threshold] & (matched.scores >= score)
    right, all_found = int(matched.true[threshold][counts].sum()), int(counts.sum())
    return _figures(right, all_found, matched.objects)


def together(matched: Sequence[Matched], score: float, threshold: int = 0) -> dict[str, float]:
    """The same over all classes, every object alike."""
    kept = [~m.ignored[threshold] & (m.scores >= score) for m in matched]
    right = sum(int(m.true[threshold][k].sum()) for m, k in zip(matched, kept, strict=True))
    return _figures(right, sum(int(k.sum()) for k in kept), sum(m.objects for m in matched))


def f1_of(precision, recall):
    """Harmonic mean of precision and recall; 0 where both are."""
    return 2 * precision * recall / np.maximum(precision + recall, 1e-12)


def _figures(right: int, found: int, objects: int) -> dict[str, float]:
    precision, recall = right / max(found, 1), right / max(objects, 1)
    return {"precision": precision, "recall": recall, "f1": float(f1_of(precision, recall)), "support": objects}


def _overlap(found: np.ndarray, objects: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """IoU, but for regions the share of the detection that lies inside."""
    common = rectangles.intersection(found, objects)
    own = rectangles.area(found)[:, None]
    union = np.where(regions[None], own, own + rectangles.area(objects)[None] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _assign(overlap: np.ndarray, ignored: np.ndarray, regions: np.ndarray, thresholds) -> tuple[np.ndarray, np.ndarray]:
    """For each threshold and detection of a picture whether it is right, and whether it is ignored.

    Objects that count come first. The last of equal overlaps is taken, as in COCO's own code.
    """
    count, (found, objects) = len(thresholds), overlap.shape
    true, skipped = np.zeros((2, count, found), bool)
    if not objects:
        return true, skipped
    taken, least = np.zeros((count, objects), bool), np.minimum(thresholds, 1 - 1e-10)[:, None]
    rows = np.arange(count)
    for number in range(found):
        open_ones = (~taken | regions) & (overlap[number][None] >= least)
        for group, result in ((~ignored, true), (ignored, skipped)):
            free = np.where(open_ones & group[None], overlap[number][None], -1.0)
            place = objects - 1 - np.argmax(free[:, ::-1], 1)
            hit = (free[rows, place] >= 0) & ~true[:, number] & ~skipped[:, number]
            result[hit, number] = True
            taken[rows[hit], place[hit]] = True
    return true, skipped


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")
