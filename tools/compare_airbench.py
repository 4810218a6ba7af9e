"""`kzoo train speedrun_cnn/cifar10-94` and airbench's own PyTorch program, whole trainings on the same images, in turn.

    python tools/compare_airbench.py --airbench airbench94.py --torch-python venv-with-torch/bin/python --write

Says the accuracy that each reaches on the test images, without and with averaging over views, and the minutes that its
training took, without its start and its tests. Both train in the precision that the recipe takes on this machine.
Trainings that --out holds are not run again. `bench_cifar.py` has the speed alone. Give your own copy of airbench94.py
(``legacy/airbench94.py`` of KellerJordan/cifar10-airbench).
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import reproduce
from bench_cifar import RECIPE, images
from measurements import save

TRAINING_IMAGES = 50_000


def main() -> None:
    """Train what is missing, print and record what both reach."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--airbench", type=Path, required=True, help="your copy of legacy/airbench94.py")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="seeds that both train with")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="where the trainings go")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()

    found = {"airbench94": [], RECIPE: []}
    for seed in given.seeds:
        run, _ = reproduce.train(RECIPE, seed, given.out)
        test = run.summary["test"]
        found[RECIPE].append((test["accuracy"], test["accuracy_tta"], run.summary["training"]["seconds"]))
        precision = run.recipe.arguments["dtype_policy"].removeprefix("mixed_")
        found["airbench94"].append(peer(given, seed, precision))
    figures = {name: summary(trainings) for name, trainings in found.items()}
    print(json.dumps(figures, indent=1))
    if given.write:
        save("airbench", figures)


def peer(given, seed: int, precision: str) -> tuple[float, float, float]:
    """Accuracy, accuracy over views, and seconds of a whole training by airbench's program."""
    log = given.out / "airbench94" / f"{precision}-s{seed}.jsonl"
    if not log.is_file():
        log.parent.mkdir(parents=True, exist_ok=True)
        data = log.with_name("cifar10.npz")
        if not data.is_file():
            images(data, TRAINING_IMAGES, 10_000)
        tool = Path(__file__).with_name("airbench_on_cpu.py")
        how = ["--seed", str(seed), "--dtype", precision]
        command = [given.torch_python, str(tool), str(given.airbench.resolve()), str(data.resolve()), *how]
        log.write_text(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    # The clock of the last line has run through the test by views too.
    trained, tested = (json.loads(line) for line in log.read_text().splitlines()[-2:])
    return tested["accuracy"], tested["accuracy_tta"], trained["seconds"]


def summary(trainings: list[tuple[float, float, float]]) -> dict[str, object]:
    """Means over the seeds, with every seed's accuracy."""
    accuracies, averaged, seconds = zip(*trainings, strict=True)
    return {
        "accuracy": round(statistics.mean(accuracies), 4),
        "accuracy_tta": round(statistics.mean(averaged), 4),
        "each_seed_tta": ", ".join(f"{a:.4f}" for a in averaged),
        "minutes": round(statistics.mean(seconds) / 60, 1),
    }


if __name__ == "__main__":
    main()
