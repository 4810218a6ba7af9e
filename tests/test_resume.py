"""A training that is killed at any moment ends where the uninterrupted one ends, bit for bit."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import kzoo
from kzoo import weights
from kzoo.tasks import callbacks

# Dropout, augmentation, averaging, a schedule and early stopping: everything that has a state of its own.
EXACT = {
    "arguments.filters": [4, 8],
    "arguments.blocks_per_stage": 1,
    "arguments.dropout": 0.2,
    "train.epochs": 4,
    "train.ema": 0.9,
    "train.early_stopping": {"patience": 3},
    # Does not divide the 20 steps of a pass, so that an epoch has 18.
    "train.steps_per_execution": 3,
}


def arrays(run, name="last"):
    with np.load(run.checkpoint(name), allow_pickle=False) as stored:
        # Paths are numbered anew in each process; the place before "@" is what counts.
        return {k.partition("@")[0]: stored[k] for k in stored.files if k != "document"}


def assert_same_end(run, whole):
    for name in ("last", "best"):
        ours, theirs = arrays(run, name), arrays(whole, name)
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert np.array_equal(ours[key], theirs[key]), f"{name}: {key}"
    drop = ("seconds",)
    rows, expected = ([{k: v for k, v in r.items() if k not in drop} for r in x.metrics()] for x in (run, whole))
    assert rows == expected
    assert run.summary["test"] == whole.summary["test"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return kzoo.train(kzoo.load_recipe("cnn_classifier/digits", EXACT), out=tmp_path_factory.mktemp("whole") / "run")


def test_stopping_between_epochs_changes_nothing(whole, tmp_path):
    recipe = kzoo.load_recipe("cnn_classifier/digits", EXACT)
    run = kzoo.train(recipe, out=tmp_path / "run", until=1)
    assert run.summary is None and len(run.metrics()) == 1
    kzoo.train(recipe, out=tmp_path / "run", until=3)
    assert_same_end(kzoo.resume(run.path), whole)


def test_dying_while_a_resumed_run_drops_rows_loses_none(tmp_path, monkeypatch):
    (tmp_path / "recipe.yaml").write_text("model: cnn_classifier\n")
    run = kzoo.Run(tmp_path)
    for epoch in range(6):
        run.append_metrics({"epoch": epoch, "loss": 0.1 + epoch})
    rows = run.metrics()
    assert [float(r["loss"]) for r in rows] == [0.1, 1.1, 2.1, 3.1, 4.1, 5.1]
    done = {"epochs_done": 5, "states": {}, "seconds": 1.0, "stopped": False}
    monkeypatch.setattr(weights, "load_checkpoint", lambda *_, **__: done)
    run.checkpoint("last").parent.mkdir()
    run.checkpoint("last").touch()

    def restore():
        callbacks.Checkpoints(run, {}).restore(SimpleNamespace(optimizer=None))

    def die(source, target):
        raise KeyboardInterrupt

    real = os.replace
    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        restore()
    assert run.metrics() == rows
    monkeypatch.setattr(os, "replace", real)
    restore()
    assert run.metrics() == rows[:5]
    monkeypatch.setattr(os, "replace", die)
    restore()  # whose rows are these is not written again


def test_figures_that_go_while_they_are_read_are_none(tmp_path, monkeypatch):
    """A search looks at its trials' figures at any moment."""
    (tmp_path / "recipe.yaml").write_text("model: cnn_classifier\n")
    run = kzoo.Run(tmp_path)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    assert run.metrics() == []


@pytest.mark.parametrize("written", ["best.npz", "last.npz", "metrics.csv"])
def test_dying_while_a_file_is_written_keeps_the_last_good_state(whole, tmp_path, monkeypatch, written):
    recipe = kzoo.load_recipe("cnn_classifier/digits", EXACT)
    real, seen = os.replace, []

    def die_the_second_time(source, target):
        seen.append(os.path.basename(target))
        if seen.count(written) == 2:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr(os, "replace", die_the_second_time)
    with pytest.raises(KeyboardInterrupt):
        kzoo.train(recipe, out=tmp_path / "run")
    monkeypatch.setattr(os, "replace", real)
    run = kzoo.Run(tmp_path / "run")
    assert not list(run.path.rglob(".*npz")), "no temporary file stays behind"
    # What a kill -9 at that moment would have left is cleared away as well.
    (run.path / "checkpoints" / ".last.1.npz").write_bytes(b"half")
    assert_same_end(kzoo.resume(run), whole)
    if written != "best.npz":
        assert not list(run.path.rglob(".*npz"))


def test_kill_9_and_ctrl_c_in_mid_training_then_resume_by_command(whole, tmp_path, command):
    recipe = tmp_path / "exact.yaml"
    recipe.write_text(kzoo.load_recipe("cnn_classifier/digits", EXACT).dump(resolved=False))
    folder = tmp_path / "run"
    start = [sys.executable, "-m", "kzoo", "train", str(recipe), "--out", str(folder)]
    resume = [sys.executable, "-m", "kzoo", "train", "--resume", str(folder)]
    for arguments, how in ((start, signal.SIGKILL), (resume, signal.SIGINT)):
        rows = len(kzoo.Run(folder).metrics()) + 1 if folder.is_dir() else 1
        process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and process.poll() is None:
            if (folder / "recipe.yaml").is_file() and len(kzoo.Run(folder).metrics()) >= rows:
                break
            time.sleep(0.01)
        process.send_signal(how)
        error = process.communicate(timeout=60)[1]
        # A training this small may have ended before the signal came; then it simply ended, which is no failure.
        if how is signal.SIGINT and kzoo.Run(folder).summary is None:
            assert process.returncode == 1 and "kzoo: interrupted" in error and "Traceback" not in error
    done = command("train", "--resume", folder)
    assert done.code == 0, done.err
    assert_same_end(kzoo.Run(folder), whole)


def test_resuming_a_finished_run_changes_nothing(whole, command):
    before = {p: p.read_bytes() for p in whole.path.rglob("*") if p.is_file()}
    done = command("train", "--resume", whole.path)
    assert done.code == 0 and "finished already" in done.err
    assert before == {p: p.read_bytes() for p in whole.path.rglob("*") if p.is_file()}


def test_another_recipe_does_not_go_on_in_the_same_folder(whole):
    with pytest.raises(kzoo.RequestError, match="another recipe"):
        kzoo.train(kzoo.load_recipe("cnn_classifier/digits"), out=whole.path)
    with pytest.raises(kzoo.RequestError, match="holds a run already"):
        kzoo.train(kzoo.load_recipe("cnn_classifier/digits", EXACT), out=whole.path, resume=False)


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(kzoo.RequestError, match="is not empty"):
        kzoo.train(kzoo.load_recipe("cnn_classifier/digits", EXACT), out=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_whose_making_was_killed_is_used(tmp_path):
    (tmp_path / "origin.json").write_text("{}")
    (tmp_path / ".environment.4711.json").write_text("{")
    recipe = kzoo.load_recipe("cnn_classifier/digits", {**EXACT, "train.epochs": 1})
    assert kzoo.train(recipe, out=tmp_path).summary is not None


def test_a_run_goes_on_from_another_working_directory(tmp_path, image_folder, monkeypatch):
    overrides = {
        "data.source": "folder:images",
        "data.batch_size": 8,
        "data.validation": 0.25,
        "arguments.filters": [4],
    }
    monkeypatch.chdir(image_folder.parent)
    run = kzoo.train(kzoo.load_recipe("cnn_classifier/digits", {**overrides, "train.epochs": 2}), out="run", until=1)
    monkeypatch.chdir("/")
    assert kzoo.resume(image_folder.parent / run.path).summary["training"]["epochs"] == 2


def test_two_processes_do_not_train_in_one_folder(whole):
    with whole.lock(), pytest.raises(kzoo.RequestError, match="another process"):
        with whole.lock():
            pass


@pytest.mark.parametrize("damage", ["truncated", "text", "other network"])
def test_a_damaged_checkpoint_is_one_sentence(whole, tmp_path, damage):
    model = kzoo.build("cnn_classifier", **whole.card["arguments"])
    path = tmp_path / "last.npz"
    stored = whole.checkpoint("last").read_bytes()
    path.write_bytes({"truncated": stored[: len(stored) // 2], "text": b"nothing"}.get(damage, stored))
    if damage == "other network":
        model = kzoo.build("cnn_classifier", **{**whole.card["arguments"], "filters": (4, 9)})
    with pytest.raises(kzoo.RequestError, match=r"last\.npz"):
        weights.load_checkpoint(path, model)


def test_a_diverged_training_fails_and_keeps_the_epoch_before(tmp_path, command):
    done = command(
        *("train", "cnn_classifier/digits", "--out", tmp_path / "run", "--set", "train.optimizer.learning_rate=1e30"),
        *("--set", "train.optimizer.name=sgd", "--set", "arguments.batch_norm=false", "--set", "train.epochs=2"),
    )
    assert done.code == 1 and "the loss is nan" in done.err and "Traceback" not in done.err
