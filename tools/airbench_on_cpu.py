"""Run your own copy of airbench94.py (KellerJordan/cifar10-airbench, ``legacy/``) on a CPU, for `bench_cifar.py`.

    python tools/airbench_on_cpu.py airbench94.py cifar10.npz --epochs 3

Needs PyTorch and NumPy alone. The program is executed as it is, but for what ties it to a GPU: half precision becomes
--dtype, its clock the processor's. One JSON line for each epoch: ``seconds`` of training so far and ``accuracy`` of the
test images, at the end ``accuracy_tta``. The data are an ``.npz`` of x_train, y_train, x_test, y_test.
"""

import argparse
import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path

import numpy as np
import torch

# What a GPU program says, and what it is to say here; each must be found.
ADAPTATIONS = {
    "torch.device(gpu)": 'torch.device("cpu")',
    ".half()": ".to(HALF)",
    "torch.half": "HALF",
    ".cuda()": "",
    "torch.cuda.Event(enable_timing=True)": "Clock()",
    "torch.cuda.synchronize()": "None",
}


class Clock:
    """Stands in for ``torch.cuda.Event``."""

    def record(self) -> None:
        self.time = time.perf_counter()

    def elapsed_time(self, other: "Clock") -> float:
        return 1e3 * (other.time - self.time)


class Normalize:
    """Stands in for ``torchvision.transforms.Normalize``."""

    def __init__(self, mean, std):
        self.mean, self.std = (v.view(1, 3, 1, 1) for v in (mean, std))

    def __call__(self, images):
        return ((images.float() - self.mean) / self.std).to(images.dtype)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--epochs", type=float, default=9.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    given = parser.parse_args()
    program = adapted(given.program, getattr(torch, given.dtype))
    program["hyp"]["opt"]["train_epochs"] = given.epochs
    program["print_training_details"] = tell
    torch.manual_seed(given.seed)
    data = np.load(given.data)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cifar10").mkdir()
        for part in ("train", "test"):
            values = {"images": torch.tensor(data[f"x_{part}"]), "labels": torch.tensor(data[f"y_{part}"]).long()}
            torch.save({**values, "classes": list(range(10))}, Path(folder) / "cifar10" / f"{part}.pt")
        os.chdir(folder)
        program["main"](0)
        os.chdir("/")


def adapted(path: Path, half: torch.dtype) -> dict:
    """The program's names after its definitions were executed."""
    source = path.read_text("utf-8")
    for old, new in ADAPTATIONS.items():
        if old not in source:
            sys.exit(f"{path} is not the airbench94.py that this tool knows: it lacks {old}")
        source = source.replace(old, new)
    transforms = types.ModuleType("torchvision.transforms")
    transforms.Normalize = Normalize
    vision = types.ModuleType("torchvision")
    vision.transforms = transforms
    sys.modules |= {"torchvision": vision, "torchvision.transforms": transforms}
    names = {"__name__": "airbench", "HALF": half, "Clock": Clock}
    exec(compile(source, str(path), "exec"), names)
    return names


def tell(variables: dict, is_final_entry: bool) -> None:
    """Takes the place of the program's own table."""
    figures = {"seconds": variables["total_time_seconds"], "accuracy": variables["val_acc"]}
    if is_final_entry:
        figures["accuracy_tta"] = variables["tta_val_acc"]
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
