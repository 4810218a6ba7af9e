"""KITTI's protocol for objects in pictures (Geiger et al. 2012; cvlibs.net, eval_object.php, 40 recalls since 2019).

What is too small, too hidden or too far outside the picture for a difficulty counts neither for nor against a detector,
nor do neighbouring classes, nor what lies in DontCare regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kzoo import boxes as rectangles
from kzoo.data.detection.truth import Truth
from kzoo.tasks.detection.detections import Detections


@dataclass(frozen=True)
class Difficulty:
    """What counts: heights in pixels of the picture, KITTI's occlusion, share outside the picture."""

    least_height: float
    most_occluded: int
    most_truncated: float


DIFFICULTIES = {
    "easy": Difficulty(40, 0, 0.15),
    "moderate": Difficulty(25, 1, 0.30),
    "hard": Difficulty(25, 2, 0.50),
}
# Least overlap, and the type that is no error to be taken for one of the class.
CLASSES = {"car": (0.7, "van"), "pedestrian": (0.5, "person_sitting"), "cyclist": (0.5, None)}
SAMPLES = 41
_DONT_CARE = "dontcare"
_COUNTED, _IGNORED, _OTHER = 0, 1, -1


@dataclass(frozen=True)
class _Frame:
    """One picture as one class and difficulty see it.

    Attributes:
        states: `_COUNTED`, `_IGNORED` or `_OTHER` of each object.
        small: Which detections are too small to count.
        scores: Of the detections of the class, and of small ones of any.
        overlap: IoU (objects, detections).
        excused: Which detections lie in a DontCare region.
    """

    states: np.ndarray
    small: np.ndarray
    scores: np.ndarray
    overlap: np.ndarray
    excused: np.ndarray


def average_precision(
    truths: Sequence[Truth], found: Sequence[Detections], classes: Sequence[str], name: str, difficulty: str
) -> dict[str, float]:
    """Average precision of one class at one difficulty.

    Args:
        truths: Objects of each picture with the names that KITTI gives them; boxes in pixels of the picture.
        found: Detections of each picture.
        classes: Names of the detections' labels.
        name: ``car``, ``pedestrian`` or ``cyclist``, in any case.
        difficulty: ``easy``, ``moderate`` or ``hard``.

    Returns:
        ``ap40`` over 40 recalls, ``ap11`` over eleven, and ``objects``, the number that counts.
    """
    least, neighbour = CLASSES[name.lower()]
    called = np.array([c.lower() for c in classes])
    frames = [
        _frame(t, d, called, name.lower(), neighbour, DIFFICULTIES[difficulty], least)
        for t, d in zip(truths, found, strict=True)
    ]
    objects = sum(int((f.states == _COUNTED).sum()) for f in frames)
    hits = np.concatenate([_scores_of_hits(f, least) for f in frames]) if frames else np.zeros(0)
    precision = np.zeros(SAMPLES)
    for place, threshold in enumerate(_thresholds(hits, objects)):
        right, wrong = np.sum([_count(f, least, threshold) for f in frames], 0)
        precision[place] = right / (right + wrong) if right + wrong else 0.0
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return {"ap40": float(precision[1:].mean()), "ap11": float(precision[::4].mean()), "objects": objects}


def summary(truths: Sequence[Truth], found: Sequence[Detections], classes: Sequence[str]) -> dict[str, dict]:
    """For each of the classes that KITTI knows its ``ap40`` and ``ap11`` by difficulty."""
    known = [c for c in classes if c.lower() in CLASSES]
    return {c: {d: average_precision(truths, found, classes, c, d) for d in DIFFICULTIES} for c in known}


def _frame(truth: Truth, detections: Detections, called, name, neighbour, limits: Difficulty, least) -> _Frame:
    kinds = np.array([n.lower() for n in truth.names], object)
    regions = kinds == _DONT_CARE
    objects = np.flatnonzero(~regions)
    boxes = truth.boxes[objects].astype(np.float64)
    heights = boxes[:, 3] - boxes[:, 1]
    hard = (truth.occlusion[objects] > limits.most_occluded) | (truth.truncation[objects] > limits.most_truncated)
    hard |= heights <= limits.least_height
    states = np.where(kinds[objects] == name, np.where(hard, _IGNORED, _COUNTED), _OTHER)
    states[kinds[objects] == neighbour] = _IGNORED
    small = (detections.boxes[:, 3] - detections.boxes[:, 1]).astype(np.int64) < limits.least_height
    # A detection that is too small is ignored whatever its class is.
    taking = np.flatnonzero(small | (called[detections.labels] == name)) if len(detections) else np.zeros(0, int)
    there = detections.boxes[taking].astype(np.float64)
    common = rectangles.intersection(there, truth.boxes[regions].astype(np.float64))
    share = common / np.maximum(rectangles.area(there), 1e-12)[:, None]
    return _Frame(
        states.astype(np.int64),
        small[taking],
        detections.scores[taking].astype(np.float64),
        rectangles.iou(boxes, there),
        (share > least).any(1) if share.size else np.zeros(len(taking), bool),
    )


def _scores_of_hits(frame: _Frame, least: float) -> np.ndarray:
    """The score at which each object is found: that of the most probable detection that is free and overlaps it."""
    free, hits = np.ones(len(frame.scores), bool), []
    for state, row in zip(frame.states, frame.overlap, strict=True):
        open_ones = np.flatnonzero(free & (row > least))
        if state == _OTHER or not len(open_ones):
            continue
        chosen = open_ones[np.argmax(frame.scores[open_ones])]
        free[chosen] = False
        if state == _COUNTED and not frame.small[chosen]:
            hits.append(frame.scores[chosen])
    return np.array(hits)


def _thresholds(hits: np.ndarray, objects: int) -> list[float]:
    """The scores at which recall comes nearest to each of 41 evenly spaced values, the highest first."""
    hits, wanted, chosen = np.sort(hits)[::-1], 0.0, []
    for place, score in enumerate(hits):
        here, after = (place + 1) / objects, (place + 2) / objects
        if place < len(hits) - 1 and after - wanted < wanted - here:
            continue
        chosen.append(float(score))
        wanted += 1 / (SAMPLES - 1)
    return chosen[:SAMPLES]


def _count(frame: _Frame, least: float, threshold: float) -> tuple[int, int]:
    """True and false positives among the detections of at least this score."""
    taking = frame.scores >= threshold
    free, right = taking.copy(), 0
    for state, row in zip(frame.states, frame.overlap, strict=True):
        if state == _OTHER:
            continue
        open_ones = free & (row > least)
        # One that counts is taken before one that is too small, and of those that count the one that overlaps most.
        good = np.flatnonzero(open_ones & ~frame.small)
        chosen = good[np.argmax(row[good])] if len(good) else next(iter(np.flatnonzero(open_ones)), None)
        if chosen is None:
            continue
        free[chosen] = False
        right += state == _COUNTED and not frame.small[chosen]
    return right, int((free & ~frame.small & ~frame.excused).sum())
