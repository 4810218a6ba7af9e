"""Shared fixtures: the command line as a subprocess, a small trained run, and the real data where they are."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import kzoo

# The tests' own processes say nothing about oneDNN and the like either.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SMALL = {"arguments.filters": [8, 16], "arguments.blocks_per_stage": 1, "train.epochs": 2}
TINY_DETECTOR = {
    "arguments.input_shape": [64, 192, 3],
    "arguments.width": 0.0625,
    "data.limit": 20,
    "data.batch_size": 4,
    "train.epochs": 2,
    "train.ema": 0.9,
}


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def command():
    """Run ``kzoo`` with arguments in a process of its own."""

    def run(*arguments, cwd=None, env=None, timeout=300) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "kzoo", *map(str, arguments)],
            capture_output=True,
            text=True,
            cwd=cwd,
            env={**os.environ, **(env or {})},
            timeout=timeout,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def small_run(tmp_path_factory) -> "kzoo.Run":
    """A finished run of a small network on the embedded default."""
    return kzoo.train(kzoo.load_recipe("cnn_classifier/digits", SMALL), out=tmp_path_factory.mktemp("run") / "small")


@pytest.fixture(scope="session")
def small_detector(tmp_path_factory) -> "kzoo.Run":
    """A finished run of a tiny detector on drawn road scenes."""
    recipe = kzoo.load_recipe("vgg16_detector/scenes", TINY_DETECTOR)
    return kzoo.train(recipe, out=tmp_path_factory.mktemp("detector") / "small")


@pytest.fixture(scope="session")
def tfds_dir() -> Path:
    """A folder of prepared TFDS data; a user's clone has none."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data" / "tfds"
    folder = Path(os.environ.get("TFDS_DATA_DIR", beside))
    if not (folder / "mnist").is_dir():
        pytest.skip("no prepared TFDS data: set TFDS_DATA_DIR to a folder that holds mnist and cifar10")
    return folder


@pytest.fixture
def image_folder(tmp_path) -> Path:
    """Two classes of small PNGs, told apart by their brightness."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, low in (("dark", 0), ("light", 128)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(low, low + 128, (12, 10, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return tmp_path / "images"


@pytest.fixture
def trainer(monkeypatch):
    """Stands for the trainings of a search; see `tests.searching.Trainer`."""
    from kzoo import process
    from kzoo.search import page
    from tests.searching import Trainer

    trainer = Trainer()
    monkeypatch.setattr(process, "_run", trainer)
    # Nothing here pulls the plug, and a flush of a busy disk takes longer than all the rest.
    monkeypatch.setattr(os, "fsync", lambda _: None)
    # Drawing takes longer than a search without networks; the page has a test of its own.
    monkeypatch.setattr(page, "write", lambda folder: None)
    return trainer
