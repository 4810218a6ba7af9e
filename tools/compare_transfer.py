"""A detector that starts from the zoo's own classifier, beside the same recipe from random weights.

    python tools/compare_transfer.py --root BCCD --write

The classifier, VGG16's stages at a quarter of their width on CIFAR-10, is trained once. Then each seed of the
detector's recipe is trained for the same few epochs in three ways: from random weights; from the classifier's; and
from the classifier's with the stages frozen at first and all but the first two trained later. Everything else is
alike. Runs that are finished already (--out holds them) are not trained again.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

from measurements import save
from reproduce import train

CLASSIFIER = "cnn_classifier/cifar10-vgg16"
METRICS = ("map50", "map", "f1")


def main() -> None:
    """Train what is missing, print and record the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="vgg16_detector/bccd", help="a recipe of a quarter's width")
    parser.add_argument("--root", type=Path, help="the data set's folder, where the recipe leaves data.root open")
    parser.add_argument("--epochs", type=int, default=4, help="of each detector")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"), help="where the runs go")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    classifier, seconds = train(CLASSIFIER, 0, given.out)
    print(f"{CLASSIFIER}: test accuracy {classifier.summary['test']['accuracy']:.4f}", file=sys.stderr)
    figures = {name: row(name, changes, given) for name, changes in ways(classifier.path, given.epochs).items()}
    figures["the classifier"] = {
        "test accuracy": round(classifier.summary["test"]["accuracy"], 4),
        "minutes": round(seconds / 60, 1),
    }
    print(json.dumps(figures, indent=1))
    if given.write:
        save("transfer", figures)


def ways(classifier: Path, epochs: int) -> dict[str, dict]:
    """What is different in each way, by dotted key."""
    carried = {"train.epochs": epochs, "train.weights": str(classifier.resolve())}
    later = [{"layers": ["stage[345]_"], "epoch": max(1, epochs // 4)}]
    return {
        "from scratch": {"train.epochs": epochs},
        "from the classifier": carried,
        "from the classifier, frozen first": {**carried, "train.freeze": ["stage"], "train.unfreeze": later},
    }


def row(way: str, changes: dict, given) -> dict:
    """Figures of the test part in one way, over the seeds."""
    out = given.out / way.replace(",", "").replace(" ", "-")
    runs = [train(given.recipe, seed, out, given.root, changes) for seed in given.seeds]
    found = {"seeds": len(runs), "epochs": given.epochs}
    for metric in METRICS:
        values = [run.summary["test"][metric] for run, _ in runs]
        found[f"test {metric}"] = round(statistics.mean(values), 4)
        found[f"std of {metric}"] = round(statistics.stdev(values), 4) if len(values) > 1 else None
    found[f"{METRICS[0]}, each seed"] = ", ".join(f"{run.summary['test'][METRICS[0]]:.4f}" for run, _ in runs)
    return {**found, "minutes": round(statistics.mean(seconds for _, seconds in runs) / 60, 1)}


if __name__ == "__main__":
    main()
