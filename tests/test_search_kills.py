"""A search whose processes are killed again and again ends as one that was left alone."""

import contextlib
import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kzoo import process
from kzoo.files import read_json, write_text

RECIPE = """
model: cnn_classifier
arguments: {filters: [4, 8], blocks_per_stage: 1}
data: {source: "builtin:digits", batch_size: 32}
train: {epochs: 10, optimizer: {name: adam, learning_rate: 1e-2}, precision: float32}
search:
  max_trials: TRIALS
  space:
    train.optimizer.learning_rate: {min: 1e-3, max: 1e-1, log: true}
    data.batch_size: {choices: [32, 64]}
"""


def start(folder: Path) -> subprocess.Popen:
    workers = str(min(2, len(os.sched_getaffinity(0))))
    command = [sys.executable, "-m", "kzoo", "search", "digits.yaml", "--workers", workers, "--out", folder.name]
    command.append("--quiet")
    with open(folder.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(command, cwd=folder.parent, stdout=log, stderr=log)


def trials(folder: Path) -> dict[str, tuple]:
    """Status, score and number of epochs of each trial that has ended."""
    path = folder / "trials.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []
    return {r["number"]: (r["status"], r["score"], r["epochs"]) for r in rows if r["status"] != "running"}


def kill_something(searching: subprocess.Popen, rng: random.Random) -> str:
    """Kill the search or one of its trainings; says which."""
    trainings = []
    for child in psutil.Process(searching.pid).children():
        with contextlib.suppress(psutil.Error):  # one that has just ended
            trainings += [child.pid] if "kzoo.process" in child.cmdline() else []
    victim = rng.choice([searching.pid, *trainings])
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim, signal.SIGKILL)
    return "search" if victim == searching.pid else "training"


@pytest.mark.slow
def test_kills_change_nothing(tmp_path):
    """As many kills as KZOO_KILLS says, 5 by default, at random moments."""
    wanted = int(os.environ.get("KZOO_KILLS", "5"))
    write_text(tmp_path / "digits.yaml", RECIPE.replace("TRIALS", str(max(6, wanted))))
    assert start(tmp_path / "whole").wait() == 0
    rng, killed, known = random.Random(0), [], {}
    searching = start(tmp_path / "killed")
    while len(killed) < wanted:
        time.sleep(rng.uniform(1, 10))
        if searching.poll() is not None:
            break
        killed.append(kill_something(searching, rng))
        if killed[-1] == "search":
            searching.wait()
            now = trials(tmp_path / "killed")
            assert known.items() <= now.items()  # no finished trial is lost
            known = now
            searching = start(tmp_path / "killed")
    assert searching.wait() == 0, (tmp_path / "killed.log").read_text()
    print(f"{len(killed)} kills: {killed.count('search')} of the search, {killed.count('training')} of trainings")
    whole, disturbed = tmp_path / "whole", tmp_path / "killed"
    assert trials(disturbed) == trials(whole) and killed
    assert read_json(disturbed / "search.json")["winner"] == read_json(whole / "search.json")["winner"]
    for run in (tmp_path / "killed/trials").glob("*/run"):
        process._await_end(run)
