"""vgg16_detector from JPEG files to boxes against torchvision's ssd300_vgg16, in turn on the same cores.

    python tools/bench_detector.py --torch-python venv-with-torch/bin/python --onnx --write

Both have SSD300's 24 million weights at random, three classes, and the same street scenes of 1200 x 360 pixels. Each
side is a process of its own, and in each round every job is done once, so that what else the machine does meets all of
them alike. On one thread the smallest processor time of a job counts, on more the smallest wall time. Torchvision's
suppression costs it nothing here, see `torchvision_on_cpu.py`. Beside the zoo's predict stand other ways to run its
network, and the small variant's input pipeline beside the training step that it must feed.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from measurements import save
from workers import Worker, least_seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="an interpreter that has torchvision; without it the zoo's side alone")
    parser.add_argument("--onnx", action="store_true", help="run the network in ONNX Runtime too; takes tf2onnx")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        draw(Path(folder))
        seconds = measure(given, folder)
    figures = summarize(seconds)
    print(json.dumps(figures, indent=1))
    if given.write:
        save("detector", figures)


def draw(folder: Path) -> None:
    """Street scenes as JPEG files."""
    from PIL import Image

    from kzoo.data.detection import scenes

    for number in range(8):
        Image.fromarray(scenes.draw((9, number))[0]).resize((1200, 360)).save(folder / f"{number}.jpg", quality=90)


def measure(given, folder: str) -> dict[str, float]:
    """The least seconds of each job."""
    onnx = ["onnx"] if given.onnx else []
    sides = [Worker(sys.executable, "detector_worker.py", "kzoo", given.threads, folder, *onnx)]
    if given.torch_python:
        sides.append(Worker(given.torch_python, "detector_worker.py", "torch", given.threads, folder))
    found = least_seconds(sides, given.threads, given.rounds)
    return {job: value for seconds in found for job, value in seconds.items()}


def summarize(seconds: dict[str, float]) -> dict[str, dict]:
    """Milliseconds a picture, and how many times faster the zoo is."""
    figures = {}
    for job, value in seconds.items():
        figures[job] = {"milliseconds_a_picture": round(1000 * value / int(job.rpartition(" ")[2]), 2)}
    for count in (1, 8):
        for peer in ("torchvision", "torchvision channels last", "keras predict", "xla", "onnx runtime"):
            if f"{peer} {count}" in seconds:
                ratio = seconds[f"{peer} {count}"] / seconds[f"predict {count}"]
                figures[f"predict {count}: times faster than {peer}"] = {"ratio": round(ratio, 3)}
    pipeline, step = (next(v for k, v in seconds.items() if k.startswith(n)) for n in ("pipeline", "training step"))
    figures["pipeline of scenes: times what the training takes"] = {"ratio": round(step / pipeline, 2)}
    return figures


if __name__ == "__main__":
    main()
