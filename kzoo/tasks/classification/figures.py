"""Figures and pictures of a classifier's predictions."""

from pathlib import Path

import numpy as np

from kzoo.files import atomic


def judge(logits: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> dict:
    """Judge predictions against the truth.

    Args:
        logits: (count, classes), float.
        labels: (count,), class numbers.
        classes: Class names.

    Returns:
        ``accuracy``, ``top5_accuracy`` (with more than five classes), ``loss`` (cross-entropy in nats), means over the
        classes ``precision``, ``recall`` and ``f1``, ``per_class`` with the same and the ``support``, and
        ``confusion_matrix`` (rows are true classes). A class that is never predicted has precision 0.
    """
    from sklearn import metrics

    numbers = np.arange(len(classes))
    answers = logits.argmax(1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(
        labels, answers, labels=numbers, zero_division=0
    )
    shifted = logits - logits.max(1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    figures = {
        "accuracy": float((answers == labels).mean()),
        "loss": float(-log_probabilities[np.arange(len(labels)), labels].mean()),
        "precision": float(precision.mean()),
        "recall": float(recall.mean()),
        "f1": float(f1.mean()),
        "examples": len(labels),
    }
    if len(classes) > 5:
        best = np.argpartition(logits, -5, axis=1)[:, -5:]
        figures["top5_accuracy"] = float((best == labels[:, None]).any(1).mean())
    figures["per_class"] = {
        name: {"precision": float(p), "recall": float(r), "f1": float(f), "support": int(s)}
        for name, p, r, f, s in zip(classes, precision, recall, f1, support, strict=True)
    }
    figures["confusion_matrix"] = metrics.confusion_matrix(labels, answers, labels=numbers).tolist()
    return figures


def draw_confusion_matrix(matrix: list[list[int]], classes: tuple[str, ...], path: Path) -> Path:
    """Draw a confusion matrix, coloured by the share of each true class, with counts where they fit."""
    from matplotlib.figure import Figure

    counts = np.asarray(matrix)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = min(4 + 0.45 * len(classes), 30)
    figure = Figure((size, size), dpi=100, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    axes.set(xlabel="predicted", ylabel="true", title=f"accuracy {np.trace(counts) / max(counts.sum(), 1):.2%}")
    if len(classes) <= 60:
        axes.set_xticks(range(len(classes)), classes, rotation=60, ha="right", rotation_mode="anchor")
        axes.set_yticks(range(len(classes)), classes)
    if len(classes) <= 30:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if shares[row, column] > 0.5 else "black"
                axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    with atomic(path) as temporary:
        figure.savefig(temporary)
    return path
