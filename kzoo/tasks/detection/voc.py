"""Pascal VOC's average precision (Everingham et al. 2010, section 4.2), of 2007 and since 2010."""

from collections.abc import Sequence

import numpy as np

from kzoo import boxes as rectangles
from kzoo.data.detection.truth import ANY, Truth
from kzoo.tasks.detection.detections import Detections


def average_precision(
    truths: Sequence[Truth], found: Sequence[Detections], label: int, overlap: float = 0.5
) -> dict[str, float]:
    """Average precision of one class.

    The detections of all pictures are taken by falling score. Each is held against the object of the class that it
    overlaps most: right where that is free, wrong where it is taken or overlapped too little, out of account where it
    is ignored (VOC's difficult). So is what overlaps none enough and lies in a region, which VOC itself does not have.

    Returns:
        ``voc07``, the mean of the best precision at eleven recalls, and ``voc``, the area under the curve; NaN without
        objects.
    """
    scores, right, wrong, objects = [], [], [], 0
    for truth, detections in zip(truths, found, strict=True):
        mine = np.flatnonzero((truth.labels == label) | (truth.labels == ANY))
        regions, mine = mine[truth.regions[mine]], mine[~truth.regions[mine]]
        objects += int((~truth.ignored[mine]).sum())
        chosen = np.flatnonzero(detections.labels == label)
        chosen = chosen[np.argsort(-detections.scores[chosen], kind="stable")]
        taken = np.zeros(len(mine), bool)
        boxes = detections.boxes[chosen].astype(np.float64)
        common = rectangles.intersection(boxes, truth.boxes[regions].astype(np.float64))
        excused = (common >= overlap * rectangles.area(boxes)[:, None]).any(1)
        for row, inside in zip(rectangles.iou(boxes, truth.boxes[mine].astype(np.float64)), excused, strict=True):
            place = int(row.argmax()) if len(row) else -1
            hit = place >= 0 and row[place] >= overlap
            ignored = truth.ignored[mine[place]] if hit else inside
            right.append(hit and not ignored and not taken[place])
            wrong.append(not right[-1] and not ignored)
            if hit:
                taken[place] = True
        scores += detections.scores[chosen].tolist()
    if not objects:
        return {"voc07": float("nan"), "voc": float("nan")}
    order = np.argsort(-np.array(scores), kind="stable")
    true, false = np.cumsum(np.array(right, bool)[order]), np.cumsum(np.array(wrong, bool)[order])
    return _areas(true / objects, true / np.maximum(true + false, 1e-12))


def _areas(recall: np.ndarray, precision: np.ndarray) -> dict[str, float]:
    eleven = [precision[recall >= r].max(initial=0.0) for r in np.linspace(0, 1, 11)]
    recall = np.concatenate([[0.0], recall, [1.0]])
    best = np.maximum.accumulate(np.concatenate([[0.0], precision, [0.0]])[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1])
    area = float(((recall[steps + 1] - recall[steps]) * best[steps + 1]).sum())
    return {"voc07": float(np.mean(eleven)), "voc": area}
