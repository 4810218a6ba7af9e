"""Figures and pictures of detections."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kzoo.data.detection.truth import Truth
from kzoo.data.spacing import spaced
from kzoo.files import atomic
from kzoo.tasks.detection import coco, kitti, voc
from kzoo.tasks.detection.detections import Detections

# Points of a drawn curve; the figures themselves are exact.
_POINTS = 200


def brief(truths: Sequence[Truth], found: Sequence[Detections], classes: Sequence[str]) -> dict[str, float]:
    """What is worth knowing after each epoch: ``map50``, ``map``, and precision, recall and F1 at the best score."""
    matched = [coco.match(truths, found, label) for label in range(len(classes))]
    values = np.stack([coco.average_precision(m) for m in matched])
    known = values[~np.isnan(values[:, 0])]
    point = coco.together(matched, coco.best_threshold(matched))
    means = {"map50": known[:, 0].mean(), "map": known.mean()} if len(known) else {"map50": 0.0, "map": 0.0}
    return {k: float(v) for k, v in {**means, **{k: point[k] for k in ("precision", "recall", "f1")}}.items()}


def judge(
    truths: Sequence[Truth],
    found: Sequence[Detections],
    classes: Sequence[str],
    *,
    threshold: float | None,
    with_kitti: bool,
) -> dict:
    """Judge the detections of a part.

    Args:
        truths: Objects of each picture.
        found: Detections of each picture, in its pixels.
        classes: Class names.
        threshold: The score at which precision, recall and F1 are taken; None for the one that is best here.
        with_kitti: Whether the truth holds what KITTI's protocol needs.

    Returns:
        COCO's ``map50``, ``map``, ``map75`` and by size; ``voc07`` and ``voc``; ``precision``, ``recall``, ``f1`` at
        IoU 0.5 and ``threshold``; ``best_f1`` and the ``best_threshold`` that it is reached at; ``pictures`` and
        ``objects``; ``per_class``; ``curves`` (precision over recall at IoU 0.5); and ``kitti`` with its headline means
        over the classes ``kitti_moderate`` and so on.
    """
    matched = [coco.match(truths, found, label) for label in range(len(classes))]
    best = coco.best_threshold(matched)
    threshold = best if threshold is None else threshold
    areas = [voc.average_precision(truths, found, label) for label in range(len(classes))]
    point = coco.together(matched, threshold)
    headline = {"map50": 0.0, "map": 0.0, **coco.summary(truths, found, classes)}
    figures = {
        **headline,
        **{kind: _mean([a[kind] for a in areas]) for kind in ("voc07", "voc")},
        **{k: point[k] for k in ("precision", "recall", "f1")},
        "threshold": threshold,
        "best_f1": coco.together(matched, best)["f1"],
        "best_threshold": best,
        "pictures": len(truths),
        "objects": point["support"],
        "per_class": {},
        "curves": {},
    }
    for name, m, a in zip(classes, matched, areas, strict=True):
        values = coco.average_precision(m)
        own = {"map50": float(values[0]), "map": float(values.mean()), **a}
        figures["per_class"][name] = own | coco.at_threshold(m, threshold)
        figures["curves"][name] = _thinned(m)
    if with_kitti:
        figures |= _kitti(truths, found, classes)
    return figures


def draw_curves(figures: dict, path: Path) -> Path:
    """Draw precision over recall at IoU 0.5, a line for each class, and where the threshold lies."""
    from matplotlib.figure import Figure

    figure = Figure((6, 5), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    for name, curve in figures["curves"].items():
        own = figures["per_class"][name]
        line = axes.plot(curve["recall"], curve["precision"], label=f"{name}, AP {own['map50'] or 0:.3f}")[0]
        axes.plot(own["recall"], own["precision"], "o", color=line.get_color())
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1.02), ylim=(0, 1.02))
    axes.set_title(f"IoU 0.5; points at score {figures['threshold']:.2f}, F1 {figures['f1']:.3f}")
    axes.legend(frameon=False, loc="lower left")
    with atomic(path) as temporary:
        figure.savefig(temporary)
    return path


def _kitti(truths, found, classes) -> dict:
    by_class = kitti.summary(truths, found, classes)
    headline = {
        f"kitti_{difficulty}": float(np.mean([values[difficulty]["ap40"] for values in by_class.values()]))
        for difficulty in kitti.DIFFICULTIES
        if by_class
    }
    return {**headline, "kitti": by_class}


def _thinned(matched: coco.Matched) -> dict[str, list[float]]:
    precision, recall, scores = matched.curve(0)
    places = spaced(len(scores), _POINTS)
    columns = (("recall", recall), ("precision", precision), ("score", scores))
    return {name: [round(float(v), 5) for v in values[places]] for name, values in columns}


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
