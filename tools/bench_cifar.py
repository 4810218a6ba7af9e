"""`kzoo train speedrun_cnn/cifar10-94` against airbench's own PyTorch program, epoch by epoch, on the same images.

    python tools/bench_cifar.py --airbench airbench94.py --torch-python venv-with-torch/bin/python --write

Each round trains each side for a few epochs in a process of its own, in turn; an epoch's time is the median over all
epochs but the first of each process, which compiles. Give your own copy of airbench94.py (``legacy/airbench94.py`` of
KellerJordan/cifar10-airbench). The images are CIFAR-10's first ones, by TFDS.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from measurements import save

from kzoo.run import Run

RECIPE, BATCH = "speedrun_cnn/cifar10-94", 1024
ZOO = {
    "kzoo, float32": {"train.precision": "float32", "train.jit_compile": "false"},
    "kzoo, float32, XLA": {"train.precision": "float32", "train.jit_compile": "true"},
    "kzoo, bfloat16": {"train.precision": "mixed_bfloat16", "train.jit_compile": "false"},
}
TORCH = {"airbench, float32": "float32", "airbench, bfloat16": "bfloat16"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--airbench", type=Path, required=True, help="your copy of legacy/airbench94.py")
    parser.add_argument("--torch-python", default=sys.executable, help="an interpreter that has PyTorch")
    parser.add_argument("--images", type=int, default=8 * BATCH, help="training images, a multiple of 1,024")
    parser.add_argument("--epochs", type=int, default=4, help="epochs of each training, at least 2")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    if given.images % BATCH or given.epochs < 2:
        parser.error(f"--images must be a multiple of {BATCH} and --epochs at least 2")
    times = {name: [] for name in (*ZOO, *TORCH)}
    with tempfile.TemporaryDirectory() as folder:
        data = images(Path(folder) / "cifar10.npz", given.images)
        for number in range(given.rounds):
            for name in times if number % 2 == 0 else reversed(times):
                times[name] += epochs_of(name, data, Path(folder) / f"{name}-{number}", given)
                print(f"round {number + 1}: {name}: {statistics.median(times[name]):.2f} s an epoch", flush=True)
    peer = statistics.median(times["airbench, float32"])
    found = {
        name: {
            "images_per_second": round(given.images / statistics.median(values)),
            "time_by_airbench_float32": round(statistics.median(values) / peer, 3),
            "epochs_timed": len(values),
        }
        for name, values in times.items()
    }
    print(json.dumps(found, indent=1))
    if given.write:
        save("cifar", found)


def images(path: Path, count: int, test: int = 1000) -> Path:
    """Write the first training and test images to an ``.npz``."""
    import tensorflow_datasets as tfds

    parts = (f"train[:{count}]", f"test[:{test}]")
    train, held = (tfds.as_numpy(tfds.load("cifar10", split=s, batch_size=-1)) for s in parts)
    np.savez(path, x_train=train["image"], y_train=train["label"], x_test=held["image"], y_test=held["label"])
    return path


def epochs_of(name: str, data: Path, folder: Path, given) -> list[float]:
    """Seconds of each epoch after the first."""
    if name in TORCH:
        tool = Path(__file__).with_name("airbench_on_cpu.py")
        how = ["--epochs", str(given.epochs), "--dtype", TORCH[name]]
        done = run([given.torch_python, str(tool), str(given.airbench), str(data), *how])
        marks = [json.loads(line)["seconds"] for line in done.splitlines()][: given.epochs]
    else:
        steps = given.images // BATCH
        sets = {
            "data.source": f"npz:{data}",
            "train.epochs": given.epochs + 1,
            "train.steps_per_epoch": steps,
            **ZOO[name],
        }
        arguments = [a for k, v in sets.items() for a in ("--set", f"{k}={v}")]
        # One epoch is left undone, so that nothing is evaluated.
        run(
            [
                sys.executable,
                "-m",
                "kzoo",
                "train",
                RECIPE,
                *arguments,
                "--out",
                str(folder),
                "--until",
                str(given.epochs),
            ]
        )
        marks = [float(row["seconds"]) for row in Run(folder).metrics()]
    return [later - earlier for earlier, later in itertools.pairwise(marks)]


def run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    main()
