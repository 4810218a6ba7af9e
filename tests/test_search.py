"""The search: what it proposes, what it survives, and what it leaves behind."""

import itertools
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

import kzoo
from kzoo import configs, process
from kzoo.errors import DiskFull, RequestError, WorkError
from kzoo.files import write_text
from kzoo.run import Run
from kzoo.search import page, space
from kzoo.search.study import Study
from tests.searching import BATCH, DROPOUT, RATE, SPACE, journal, parent, score, table, values

ENGINES = ("keras_tuner", "optuna")
DISCRETE = {DROPOUT: {"choices": [0.0, 0.2, 0.4]}, BATCH: {"choices": [32, 64]}}


@pytest.mark.parametrize(
    ("tuner", "engine"),
    [
        *((t, "keras_tuner") for t in ("random", "bayesian", "hyperband", "grid")),
        ("random", "optuna"),
        ("tpe", "optuna"),
    ],
)
def test_every_tuner_finds_a_better_recipe(tuner, engine, tmp_path, trainer):
    # Nine random points come before the Gaussian process, which then stays near the top.
    winner = kzoo.search(parent(tuner=tuner, engine=engine, max_trials=12), out=tmp_path / "s")
    rows = table(tmp_path / "s")
    scores = [float(r["score"]) for r in rows]
    best = rows[scores.index(max(scores))]
    assert len(scores) == 12 and max(scores) > scores[0]
    assert float(best[RATE]) == winner.train.optimizer.learning_rate
    assert score(winner) == pytest.approx(max(scores) + 0.1 / int(best["epochs"]))
    if tuner == "bayesian":
        assert sum(scores[9:]) / 3 > sum(scores[:9]) / 9 + 0.02


def test_values_have_their_types_and_stay_in_range(tmp_path, trainer):
    mixed = {
        "train.epochs": {"min": 2, "max": 9},
        RATE: {"min": 1e-4, "max": 1e-2, "log": True},
        DROPOUT: {"min": 0.0, "max": 0.5, "step": 0.1},
        BATCH: {"min": 8, "max": 128, "step": 2, "log": True},
        "arguments.filters": {"choices": [[8, 16], [16, 32, 64]]},
        "train.ema": {"choices": [None, 0.9]},
    }
    kzoo.search(parent(space=mixed, max_trials=25), out=tmp_path / "s")
    seen = {key: [v[key] for v in values(tmp_path / "s")] for key in mixed}
    assert all(isinstance(v, int) and 2 <= v <= 9 for v in seen["train.epochs"])
    assert all(isinstance(v, float) and 1e-4 <= v <= 1e-2 for v in seen[RATE])
    assert sum(v < 1e-3 for v in seen[RATE]) > 5  # a linear range would put a tenth there
    assert set(seen[DROPOUT]) == {0.0, 0.1, 0.2, 0.3, 0.4, 0.5}
    assert all(isinstance(v, int) for v in seen[BATCH]) and set(seen[BATCH]) == {8, 16, 32, 64, 128}
    assert [8, 16] in seen["arguments.filters"] and [16, 32, 64] in seen["arguments.filters"]
    assert None in seen["train.ema"] and 0.9 in seen["train.ema"]


@pytest.mark.parametrize("engine", ENGINES)
def test_grid_visits_every_combination_once(engine, tmp_path, trainer):
    kzoo.search(parent(tuner="grid", engine=engine, space=DISCRETE, max_trials=20), out=tmp_path / "s")
    points = [tuple(v.values()) for v in values(tmp_path / "s")]
    assert sorted(points) == [(d, b) for d in (0.0, 0.2, 0.4) for b in (32, 64)]


def test_same_seed_same_proposals(tmp_path, trainer):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        kzoo.search(parent(seed=seed), out=tmp_path / name)
    assert values(tmp_path / "a") == values(tmp_path / "b") != values(tmp_path / "c")


def test_failed_trials_are_skipped_and_told(tmp_path, trainer, capsys):
    trainer.failing, trainer.nan = {1, 4}, {2}
    kzoo.search(parent(), out=tmp_path / "s")
    rows = table(tmp_path / "s")
    assert [r["status"] for r in rows] == ["failed", "failed", "completed", "failed", "completed", "completed"]
    assert rows[0]["reason"] == "the loss is nan after epoch 2" and "not a finite number" in rows[1]["reason"]
    assert rows[0]["score"] == "" and (tmp_path / "s/trials/0004/log.txt").is_file()
    assert "(3 failed)" in (tmp_path / "s/cnn_classifier/digits-tuned.yaml").read_text()
    told = [line for line in capsys.readouterr().err.splitlines() if line.startswith("trial ")]
    assert len(told) == 6 and "failed: the loss is nan" in told[0] and "best 0." in told[2]


def test_a_training_that_is_killed_is_taken_up_again(tmp_path, trainer):
    trainer.killed = {2: 2}  # twice, then it is left alone
    kzoo.search(parent(max_trials=3), out=tmp_path / "s")
    assert [r["status"] for r in table(tmp_path / "s")] == ["completed"] * 3
    assert [c["number"] for c in trainer.calls] == [1, 2, 2, 2, 3]


def test_a_training_that_is_killed_again_and_again_has_failed(tmp_path, trainer):
    trainer.killed = {1: 99}
    kzoo.search(parent(max_trials=2), out=tmp_path / "s")
    assert next((r["status"], r["reason"]) for r in table(tmp_path / "s")) == ("failed", "killed by SIGKILL")
    assert [c["number"] for c in trainer.calls] == [1] * 8 + [2]


def test_a_training_without_memory_has_failed_at_once(tmp_path, trainer, monkeypatch):
    trainer.killed = {1: 99}
    counts = iter([0, 1, 1, 1])
    monkeypatch.setattr(process, "_out_of_memory", lambda: next(counts))
    kzoo.search(parent(max_trials=2), out=tmp_path / "s")
    assert "no memory left" in table(tmp_path / "s")[0]["reason"]
    assert [c["number"] for c in trainer.calls] == [1, 2]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_disk_ends_the_search_and_fails_no_trial(workers, tmp_path, trainer, monkeypatch):
    """All trials to come would fail one after the other, until the budget is spent."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    kzoo.search(parent(max_trials=12), out=tmp_path / "whole", workers=workers)
    trainer.full, trainer.calls = {3}, []
    told = r"^the disk is full: \S+/trials/0003/run/checkpoints/last\.npz cannot be written: No space left on device "
    told += rf"\(log: \S+log\.txt\); [\d,.]+ MB are left for {tmp_path}/s: make room, .* --resume --out {tmp_path}/s$"
    with pytest.raises(DiskFull, match=told):
        kzoo.search(parent(max_trials=12), out=tmp_path / "s", workers=workers)
    before = table(tmp_path / "s")
    finished = [r for r in before if r["status"] == "completed"]
    assert len(finished) >= 3 - workers and {r["status"] for r in before} == {"completed", "running"}
    assert before[2]["status"] == "running" and len(before) < 12
    trainer.full = set()
    kzoo.search(parent(max_trials=12), out=tmp_path / "s", workers=workers, resume=True)
    rows, known = table(tmp_path / "s"), ("number", "status", "score", "epochs", RATE, DROPOUT, BATCH)
    assert [r for r in rows if r["number"] in {f["number"] for f in finished}] == finished
    assert [[r[k] for k in known] for r in rows] == [[r[k] for k in known] for r in table(tmp_path / "whole")]


def test_a_search_whose_own_files_find_no_room_says_so_too(tmp_path, trainer, monkeypatch):
    from kzoo.search import journal as journals

    write = journals.write_text

    def fill(path, text):
        if text.count('"end"') == 2:
            raise DiskFull(f"{path} cannot be written: No space left on device")
        write(path, text)

    monkeypatch.setattr(journals, "write_text", fill)
    with pytest.raises(DiskFull, match=r"journal\.jsonl cannot .* MB are left for .* --resume"):
        kzoo.search(parent(max_trials=3), out=tmp_path / "s")
    monkeypatch.setattr(journals, "write_text", write)
    kzoo.search(parent(max_trials=3), out=tmp_path / "s", resume=True)
    assert [r["status"] for r in table(tmp_path / "s")] == ["completed"] * 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_training_that_finds_no_room_for_a_word_is_known_by_its_code(tmp_path):
    (tmp_path / "log.txt").symlink_to("/dev/full")
    # A run of another recipe, which a training refuses before it loads TensorFlow.
    recipe = parent()
    run = Run.create(recipe, "another", tmp_path / "run")
    write_text(run.checkpoint("last"), "")
    with pytest.raises(DiskFull, match=rf"no room for a word on it \(log: {tmp_path}/log\.txt\)"):
        process.train(tmp_path, recipe)
    (tmp_path / "log.txt").unlink()
    assert "another recipe" in process.train(tmp_path, recipe).reason


def test_a_promoted_run_that_finds_no_room_leaves_nothing_half_copied(tmp_path, monkeypatch):
    def fill(source, target):
        target.mkdir()
        raise shutil.Error([("last.npz", "last.npz", "[Errno 28] No space left on device: 'last.npz'")])

    monkeypatch.setattr(shutil, "copytree", fill)
    with pytest.raises(DiskFull, match="parent cannot be copied to .*No space left"):
        process.inherit(tmp_path / "parent", tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_wait_for_a_training_that_was_left_behind_ends_when_the_trial_is_to_end(tmp_path, monkeypatch):
    def begin(*_):
        raise AssertionError("a training that is to end has begun")

    monkeypatch.setattr(process, "_run", begin)
    run = Run.create(parent(), "digest", tmp_path / "run")
    asked = iter([False, True])  # and no third time
    with run.lock():
        ending = process.train(tmp_path, parent(), watch=lambda: next(asked))
    assert ending == process.Ending(stopped=True) and run.path.is_dir()


CONDITIONAL = {
    "train.optimizer.name": {"choices": ["sgd", "adam"]},
    "train.optimizer.momentum": {"min": 0.5, "max": 0.9, "step": 0.2, "when": {"train.optimizer.name": "sgd"}},
    "train.optimizer.nesterov": {"choices": [True, False], "when": {"train.optimizer.name": "sgd"}},
    "train.optimizer.beta_1": {"fixed": 0.8, "when": {"train.optimizer.name": ["adam"]}, "otherwise": None},
    DROPOUT: {"fixed": 0.1},
}


# What they are otherwise lies on no axis: no number, and one without a logarithm.
_ADAM = {"train.optimizer.name": "adam"}
OTHERWISE = {
    "train.optimizer.beta_2": {"min": 0.9, "max": 0.999, "when": _ADAM, "otherwise": None},
    "train.optimizer.weight_decay": {"min": 1e-5, "max": 1e-3, "log": True, "when": _ADAM, "otherwise": 0},
}


@pytest.mark.parametrize("engine", ENGINES)
def test_conditional_keys_are_set_only_where_their_condition_holds(engine, tmp_path, trainer):
    recipe = parent(engine=engine, tuner="grid", space=CONDITIONAL, max_trials=20)
    assert space.combinations(recipe.search.space) == 7
    kzoo.search(recipe, out=tmp_path / "s")
    seen = values(tmp_path / "s")
    assert len(seen) == 7 and all(v[DROPOUT] == 0.1 for v in seen)
    assert sum(v["train.optimizer.name"] == "adam" for v in seen) == 1
    for v in seen:
        momentum = "train.optimizer.momentum" in v
        assert momentum == ("train.optimizer.nesterov" in v) == (v["train.optimizer.name"] == "sgd")
        assert v["train.optimizer.beta_1"] == (None if momentum else 0.8)
    trial = kzoo.load_recipe(tmp_path / "s/trials/0001/recipe.yaml")
    assert trial.train.optimizer.name == seen[0]["train.optimizer.name"]
    assert (
        next(r for r in table(tmp_path / "s") if r["train.optimizer.name"] == "adam")["train.optimizer.momentum"] == ""
    )


# Keys that depend on one that has a condition itself, and on two that have nothing to do with each other.
CHAINED = {
    "train.optimizer.name": {"choices": ["sgd", "adam"]},
    "train.optimizer.nesterov": {"choices": [True, False], "when": {"train.optimizer.name": "sgd"}},
    BATCH: {"choices": [32, 64]},
    "train.optimizer.momentum": {"choices": [0.5, 0.9], "when": {"train.optimizer.nesterov": True}},
    DROPOUT: {"choices": [0.1, 0.2], "when": {BATCH: 64, "train.optimizer.name": "adam"}, "otherwise": 0.0},
}


@pytest.mark.parametrize("engine", ENGINES)
def test_conditions_may_depend_on_each_other_and_stand_side_by_side(engine, tmp_path, trainer):
    recipe = parent(engine=engine, tuner="grid", space=CHAINED, max_trials=20)
    kzoo.search(recipe, out=tmp_path / "s")
    seen = values(tmp_path / "s")
    assert len({str(v) for v in seen}) == len(seen) == space.combinations(recipe.search.space) == 9
    for v in seen:
        assert ("train.optimizer.momentum" in v) == (v.get("train.optimizer.nesterov") is True)
        assert (v[DROPOUT] > 0) == (v[BATCH] == 64 and v["train.optimizer.name"] == "adam")


@pytest.mark.parametrize("engine", ENGINES)
def test_hopeless_trials_are_pruned(engine, tmp_path, trainer):
    recipe = parent(engine=engine, pruner="median", max_trials=16, min_epochs=3)
    kzoo.search(recipe, out=tmp_path / "s")
    rows = table(tmp_path / "s")
    pruned = [r for r in rows if r["status"] == "pruned"]
    assert all(r["status"] == "completed" for r in rows[:5]) and 2 <= len(pruned) <= 9
    assert {int(r["epochs"]) for r in pruned} <= {3, 4} and "9" in {r["epochs"] for r in rows[5:]}
    done = [float(r["score"]) for r in rows if r["status"] == "completed"]
    assert max(float(r["score"]) for r in pruned) < max(done)
    assert journal(tmp_path / "s")[-1]["curve"]


def test_what_has_diverged_is_not_trained_to_its_end(tmp_path, trainer):
    trainer.nan = {1}
    kzoo.search(parent(max_trials=2), out=tmp_path / "s")
    first = table(tmp_path / "s")[0]
    assert (first["status"], first["epochs"]) == ("failed", "1") and "not a finite number" in first["reason"]


def test_workers_divide_the_cores(tmp_path, trainer, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {2, 3, 5, 7, 8})
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6,7")
    trainer.together = threading.Barrier(2)
    kzoo.search(parent(max_trials=6), out=tmp_path / "s", workers=2)
    assert [r["status"] for r in table(tmp_path / "s")] == ["completed"] * 6
    shares = {(c["share"].cores, c["share"].gpus) for c in trainer.calls}
    assert shares == {((2, 3), ("4", "7")), ((5, 7), ("6",))}
    told = trainer.calls[0]["share"].environment()
    assert told["TF_NUM_INTRAOP_THREADS"] == told["OMP_NUM_THREADS"] == "2" and told["CUDA_VISIBLE_DEVICES"]
    with pytest.raises(RequestError, match="may use 5 cores"):
        kzoo.search(parent(), out=tmp_path / "t", workers=6)


@pytest.mark.parametrize("tuner", ["random", "bayesian", "hyperband", "tpe"])
def test_a_search_with_workers_goes_on_where_it_was(tuner, tmp_path, trainer, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    recipe = parent(tuner=tuner, engine="optuna" if tuner == "tpe" else "keras_tuner", max_trials=13)
    trainer.dying = 11
    with pytest.raises(KeyboardInterrupt):
        kzoo.search(recipe, out=tmp_path / "s", workers=2)
    before = table(tmp_path / "s")
    finished = [r for r in before if r["status"] == "completed"]
    assert 9 <= len(finished) <= 11 and before[10]["status"] == "running"
    trainer.dying = None
    trainer.calls.clear()
    kzoo.search(recipe, out=tmp_path / "s", workers=2)
    rows = table(tmp_path / "s")
    assert [r["status"] for r in rows] == ["completed"] * 13
    assert [r for r in rows if r["number"] in {f["number"] for f in finished}] == finished
    assert len(trainer.calls) == 13 - len(finished)


def test_a_budget_in_hours(tmp_path, trainer, monkeypatch):
    monkeypatch.setattr(Study, "hours", property(lambda self: float(len(self.trials))))
    kzoo.search(parent(max_trials=None, max_hours=4.0), out=tmp_path / "s")
    assert len(table(tmp_path / "s")) == 4
    # More of either goes on with it.
    kzoo.search(parent(max_trials=5, max_hours=40.0), out=tmp_path / "s")
    assert len(table(tmp_path / "s")) == 5


def test_without_a_budget_a_grid_is_whole_and_hyperband_has_a_sweep(tmp_path, trainer):
    from kzoo.search import dry_run

    kzoo.search(parent(tuner="grid", space=DISCRETE, max_trials=None), out=tmp_path / "s")
    assert len(table(tmp_path / "s")) == 6
    assert dry_run(parent(tuner="hyperband", min_epochs=1, max_trials=None))["max_trials"] == 23
    assert dry_run(parent(max_trials=None))["max_trials"] == 20


def test_resume_finds_the_newest_search_of_the_recipe(tmp_path, trainer, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="holds no search of this recipe"):
        kzoo.search(parent(), resume=True)
    with pytest.raises(RequestError, match="holds no search to go on with"):
        kzoo.search(parent(), out="elsewhere", resume=True)
    kzoo.search(parent(max_trials=2))
    kzoo.search(parent(max_trials=2, seed=1))
    kzoo.search(parent(max_trials=3), resume=True)
    folders = sorted(Path("searches/cnn_classifier/digits").iterdir())
    assert [len(table(f)) for f in folders] == [3, 2]


def test_a_training_keeps_to_its_parent_and_cores():
    core = min(os.sched_getaffinity(0))
    code = "import os, runpy, kzoo.process as p; runpy.run_module = lambda *a, **k: print(os.sched_getaffinity(0));"
    code += "import sys; p.main([sys.argv[1], sys.argv[2], 'list'])"
    done = subprocess.run([sys.executable, "-c", code, str(os.getpid()), str(core)], capture_output=True, text=True)
    assert done.stdout.strip() == f"{{{core}}}", done.stderr
    orphan = subprocess.run([sys.executable, "-c", code, "1", ""], capture_output=True, text=True)
    assert orphan.returncode == 1 and "has ended" in orphan.stderr


def test_gives_up_when_the_first_five_fail(tmp_path, trainer):
    trainer.failing = set(range(1, 100))
    with pytest.raises(WorkError, match="no trial succeeded; the last: the loss is nan after epoch 2"):
        kzoo.search(parent(max_trials=50), out=tmp_path / "s")
    assert [c["number"] for c in trainer.calls] == [1, 2, 3, 4, 5]
    board = tmp_path / "s/tensorboard/0001"
    failed = {p.name: p.read_bytes() for p in board.iterdir()}
    # When the cause is mended, the same command starts them again.
    trainer.failing = set()
    kzoo.search(parent(max_trials=6), out=tmp_path / "s")
    assert [r["status"] for r in table(tmp_path / "s")] == ["completed"] * 6
    assert {p.name: p.read_bytes() for p in board.iterdir()} != failed


def test_a_combination_that_no_recipe_takes_is_a_failed_trial(tmp_path, trainer):
    space = {
        "train.gradient_clip.norm": {"choices": [None, 1.0]},
        "train.gradient_clip.value": {"choices": [None, 1.0]},
    }
    kzoo.search(
        parent(tuner="grid", space={**space, DROPOUT: {"choices": [0.1, 0.2]}}, max_trials=8), out=tmp_path / "s"
    )
    failed = [r for r in table(tmp_path / "s") if r["status"] == "failed"]
    assert len(failed) == 2 and all("takes only one of" in r["reason"] for r in failed)


@pytest.mark.parametrize(
    ("tuner", "trials", "stride", "engine"),
    [
        ("random", 5, 2, "keras_tuner"),
        ("grid", 6, 3, "keras_tuner"),
        ("hyperband", 11, 5, "keras_tuner"),
        ("bayesian", 7, 6, "keras_tuner"),
        ("grid", 6, 3, "optuna"),
        ("tpe", 14, 9, "optuna"),
    ],
)
def test_resumed_search_is_the_one_that_was_killed(tuner, trials, stride, engine, tmp_path, trainer):
    """Cut the journal after an event, as a kill would, and go on: the same trials, none repeated."""
    # Over one key the Gaussian process begins after three trials.
    space = {RATE: SPACE[RATE]} if tuner == "bayesian" else DISCRETE if tuner == "grid" else SPACE
    pruner = "median" if tuner == "tpe" else "none"
    recipe = parent(engine=engine, tuner=tuner, max_trials=trials, space=space, pruner=pruner)
    recipe = recipe.override({DROPOUT: 0.2})
    trainer.failing = {2}
    kzoo.search(recipe, out=tmp_path / "whole")
    lines = (tmp_path / "whole/journal.jsonl").read_text().splitlines(keepends=True)
    for kept in range(0, len(lines), stride):
        cut = tmp_path / f"cut{kept}"
        shutil.copytree(tmp_path / "whole", cut)
        write_text(cut / "journal.jsonl", "".join(lines[:kept]))
        ended = sum('"end"' in line for line in lines[:kept])
        for trial in range(ended + 1, trials + 1):
            shutil.rmtree(cut / f"trials/{trial:04d}")
        trainer.calls.clear()
        kzoo.search(recipe, out=cut)
        assert values(cut) == values(tmp_path / "whole")
        assert [c["number"] for c in trainer.calls] == list(range(ended + 1, trials + 1))


def test_interrupted_trial_goes_on_from_its_own_run(tmp_path, trainer):
    trainer.dying = 3
    with pytest.raises(KeyboardInterrupt):
        kzoo.search(parent(), out=tmp_path / "s")
    assert [r["status"] for r in table(tmp_path / "s")] == ["completed", "completed", "running"]
    # Four epochs of the trial had been reached.
    begun = kzoo.load_recipe(tmp_path / "s/trials/0003/recipe.yaml")
    run = Run.create(begun, begun.digest(), tmp_path / "s/trials/0003/run")
    write_text(run.checkpoint("last"), "")
    for epoch in range(4):
        run.append_metrics({"epoch": epoch, "val_accuracy": 0.5})
    trainer.dying = None
    trainer.calls.clear()
    kzoo.search(parent(), out=tmp_path / "s")
    assert [(c["number"], c["done"]) for c in trainer.calls] == [(3, 4), (4, 0), (5, 0), (6, 0)]


def test_a_half_made_run_starts_again(tmp_path, trainer):
    """Killed before its first checkpoint, a run has nothing to go on from, and may be unreadable."""
    trainer.dying = 2
    with pytest.raises(KeyboardInterrupt):
        kzoo.search(parent(), out=tmp_path / "s")
    (tmp_path / "s/trials/0002/run").mkdir()
    (tmp_path / "s/trials/0002/run/.recipe.77.yaml").write_text("model: cnn_cla")
    trainer.dying = None
    kzoo.search(parent(), out=tmp_path / "s")
    assert [r["status"] for r in table(tmp_path / "s")] == ["completed"] * 6


def test_the_table_follows_the_journal(tmp_path, trainer):
    kzoo.search(parent(), out=tmp_path / "s")
    known = table(tmp_path / "s")
    write_text(tmp_path / "s/trials.csv", "number,status\n6,running\n")  # killed between the two
    kzoo.search(parent(), out=tmp_path / "s")
    assert table(tmp_path / "s") == known


def test_a_finished_search_can_be_given_more_trials(tmp_path, trainer):
    kzoo.search(parent(max_trials=3), out=tmp_path / "s")
    trainer.calls.clear()
    kzoo.search(parent(max_trials=5), out=tmp_path / "s")
    assert [c["number"] for c in trainer.calls] == [4, 5]


def test_another_recipe_or_space_is_refused(tmp_path, trainer):
    kzoo.search(parent(), out=tmp_path / "s")
    for other in (parent().override({"train.epochs": 8}), parent(seed=1), parent(space=DISCRETE)):
        with pytest.raises(RequestError, match="holds a search of another recipe or space"):
            kzoo.search(other, out=tmp_path / "s")
    with pytest.raises(RequestError, match="holds a search already"):
        kzoo.search(parent(), out=tmp_path / "s", resume=False)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").write_text("")
    with pytest.raises(RequestError, match="not empty"):
        kzoo.search(parent(), out=tmp_path / "other")


@pytest.mark.parametrize(
    ("line", "damaged"), [(0, b""), (0, None), (1, b"[]"), (2, None), (3, b"{}"), (5, b'{"event": "end')]
)
def test_a_damaged_journal_is_named_and_loses_only_what_follows(line, damaged, tmp_path, trainer):
    kzoo.search(parent(max_trials=3), out=tmp_path / "s")
    path = tmp_path / "s/journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:line], *([] if damaged is None else [damaged + b"\n"]), *lines[line + 1 :]]))
    trainer.calls.clear()
    with pytest.raises(RequestError, match=f"journal.jsonl is damaged from line {line + 1} on"):
        kzoo.search(parent(max_trials=3), out=tmp_path / "s")
    assert not trainer.calls
    path.write_bytes(b"".join(lines[:line]))
    kzoo.search(parent(max_trials=3), out=tmp_path / "s")
    assert [c["number"] for c in trainer.calls] == [1, 2, 3][line // 2 :]


def test_one_process_searches_in_a_folder(tmp_path, trainer, monkeypatch):
    def again(*arguments):
        with pytest.raises(RequestError, match="another process is searching"):
            kzoo.search(parent(max_trials=1), out=tmp_path / "s")
        return trainer(*arguments)

    monkeypatch.setattr(process, "_run", again)
    kzoo.search(parent(max_trials=1), out=tmp_path / "s")


def test_hyperband_goes_on_from_the_parents_run(tmp_path, trainer):
    # Nine epochs by a factor of three: rungs of 1, 3 and 9 epochs; the first bracket has 9, 3 and 1 trials.
    kzoo.search(parent(tuner="hyperband", max_trials=13, min_epochs=1, factor=3), out=tmp_path / "s")
    assert [c["until"] for c in trainer.calls] == [1] * 9 + [3] * 3 + [9]
    assert [c["done"] for c in trainer.calls] == [0] * 9 + [1] * 3 + [3]
    rows = table(tmp_path / "s")
    scores = [float(r["score"]) for r in rows]
    rates = {r[RATE] for r, s in zip(rows, scores, strict=True) if s in sorted(scores[:9])[-3:]}
    assert {r[RATE] for r in rows[9:12]} == rates  # the best three are promoted
    # The whole schedule is that of the parent, so the trial's recipe keeps its epochs.
    assert kzoo.load_recipe(tmp_path / "s/trials/0001/recipe.yaml").train.epochs == 9
    assert [r["epochs"] for r in rows] == ["1"] * 9 + ["3"] * 3 + ["9"]
    assert not list((tmp_path / "s").glob("trials/*/run.partial"))


def test_hyperband_promotes_in_spite_of_failures(tmp_path, trainer):
    trainer.failing = {2, 3, 5, 7, 8}
    kzoo.search(parent(tuner="hyperband", max_trials=18, min_epochs=1), out=tmp_path / "s")
    assert [c["until"] for c in trainer.calls] == [1] * 14 + [3] * 3 + [9]


def test_hyperbands_first_rung_has_min_epochs(tmp_path, trainer):
    kzoo.search(parent(tuner="hyperband", max_trials=8, min_epochs=2), out=tmp_path / "s")
    assert min(c["until"] for c in trainer.calls) == 3  # 9, 3, and 1 would be below


def test_several_seeds_of_a_trial_count_by_their_median(tmp_path, trainer):
    winner = kzoo.search(parent(seeds=3, max_trials=2), out=tmp_path)
    first = tmp_path / "trials" / "0001"
    assert [p.name for p in sorted(first.iterdir())] == ["s0", "s1", "s2"]
    each = [max(float(r["val_accuracy"]) for r in Run(first / f"s{n}" / "run").metrics()) for n in range(3)]
    told = next(e["score"] for e in journal(tmp_path) if e["event"] == "end" and e["trial"] == 1)
    assert told == sorted(each)[1] and len(set(each)) == 3
    assert winner.train.seed == 0 and len(trainer.calls) == 6


def test_the_page_and_tensorboard_show_every_trial(tmp_path, trainer, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trainer.failing = {4}
    keys = {k: v for k, v in CONDITIONAL.items() if k != DROPOUT} | SPACE | OTHERWISE
    recipe = parent(engine="optuna", pruner="median", space=keys, max_trials=14).override({DROPOUT: 0.2})
    kzoo.search(recipe, out=tmp_path / "s", retrain=2)
    monkeypatch.undo()
    text = page.write(tmp_path / "s").read_text()
    assert text.count("data:image/png;base64") == 3 and "src='http" not in text
    for told in ("highest val_accuracy", "trained from scratch: test accuracy", "what mattered", "out-of-bag"):
        assert told in text
    assert 0 < text.count("<td>null</td><td>0</td>") < 14, "what inactive keys have otherwise is in the table"
    assert text.count("<tr><td>") == 14 and "the loss is nan after epoch 2" in text
    boards = sorted((tmp_path / "s/tensorboard").iterdir())
    assert [b.name for b in boards] == [f"{n:04d}" for n in range(1, 15)]
    shown = EventAccumulator(str(boards[0])).Reload()
    assert len(shown.Scalars("epoch/val_accuracy")) == 9
    first = float(table(tmp_path / "s")[0]["score"])
    assert shown.Scalars("val_accuracy")[0].value == pytest.approx(first)
    assert "_hparams_/session_start_info" in shown.summary_metadata
    # What a kill kept from being written comes when the search goes on, which here has no trial left.
    shutil.rmtree(boards[1])
    kzoo.search(recipe, out=tmp_path / "s")
    assert boards[1].is_dir() and (tmp_path / "s/search.html").is_file()


def test_importance_finds_what_the_scores_depend_on():
    import numpy as np

    from kzoo.search.importance import correlation, importance

    settings = parent(space={**SPACE, "train.optimizer.name": {"choices": ["sgd", "adam"]}}).search
    rng = np.random.default_rng(0)
    trials = []
    for _ in range(60):
        rate, dropout = 10 ** rng.uniform(-4, -1), rng.choice([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])
        values = {RATE: rate, DROPOUT: dropout, BATCH: int(rng.choice([32, 64])), "train.optimizer.name": "sgd"}
        trials.append({"values": values, "score": -abs(math.log10(rate) + 2.5) - 0.3 * dropout, "epochs": 5})
    shares, fit = importance(settings.space, trials)
    assert sum(shares.values()) == pytest.approx(1) and fit > 0.8
    assert shares[RATE] > 0.8 > 0.2 > shares[DROPOUT] > shares[BATCH] >= shares["train.optimizer.name"] == 0
    low = [t for t in trials if t["values"][RATE] < 10**-2.5]
    assert correlation(settings.space, RATE, low) > 0.8 and abs(correlation(settings.space, BATCH, trials)) < 0.3
    assert correlation(settings.space, "train.optimizer.name", trials) is None
    assert importance(settings.space, trials[:9]) is None


def test_what_a_key_has_otherwise_counts_as_inactive():
    from kzoo.search.importance import correlation, importance

    names = {"train.optimizer.name": {"choices": ["sgd", "adam"]}}
    below = {"fixed": 2, "when": {"train.optimizer.beta_2": 0.9}}
    first, second = (dict(v) for v in OTHERWISE.values())
    first = {**first, "choices": [0.9, 0.99], "otherwise": 0.9}
    del first["min"], first["max"]
    keys = {**names, "train.optimizer.beta_2": first, "train.optimizer.weight_decay": second, "train.epochs": below}
    known = parent(space=keys).search.space
    values = [space.resolve(known, {"train.optimizer.name": 0})]
    assert values[0] == dict(zip(keys, ("sgd", 0.9, 0), strict=False))
    raw = {"train.optimizer.name": 1, "train.optimizer.beta_2": 0}
    values += [space.resolve(known, {**raw, "train.optimizer.weight_decay": 10**-n}) for n in (3, 3.5, 4, 4.5, 5)]
    active = [space.active_values(known, v) for v in values]
    assert active == [dict(zip(keys, ("sgd",), strict=False)), *values[1:]] and values[1]["train.epochs"] == 2
    trials = [{"values": v, "score": float(n), "epochs": 2} for n, v in enumerate(active)]
    assert correlation(known, "train.optimizer.weight_decay", trials) == pytest.approx(-1)
    assert importance(known, trials * 3)


def test_an_objective_may_go_down(tmp_path, trainer):
    winner = kzoo.search(parent(direction="min"), out=tmp_path / "s")
    worst = min(table(tmp_path / "s"), key=lambda r: float(r["score"]))
    assert winner.train.optimizer.learning_rate == float(worst[RATE])


def test_what_holds_during_the_search_does_not_hold_for_the_winner(tmp_path, trainer):
    winner = kzoo.search(parent(max_trials=2, during={"train.label_smoothing": 0.2}), out=tmp_path / "s")
    assert kzoo.load_recipe(tmp_path / "s/trials/0001/recipe.yaml").train.label_smoothing == 0.2
    assert winner.train.label_smoothing == parent().train.label_smoothing != 0.2
    with pytest.raises(RequestError, match="is in search.space too"):
        kzoo.search(parent(during={RATE: 0.2}), out=tmp_path / "t")
    with pytest.raises(RequestError, match="there is no key 'train.label'"):
        parent(during={"train.label": 0.2})


def test_an_unknown_objective_ends_the_search_at_once(tmp_path, trainer):
    with pytest.raises(RequestError, match="no figure 'val_acuracy'; did you mean 'val_accuracy'"):
        kzoo.search(parent(objective="val_acuracy"), out=tmp_path / "s")
    assert not trainer.calls


def test_the_winner_is_a_recipe_like_any_other(tmp_path, trainer):
    recipe = parent()
    winner = kzoo.search(recipe, out=tmp_path / "s")
    path = tmp_path / "s/cnn_classifier/digits-tuned.yaml"
    state = json.loads((tmp_path / "s/search.json").read_text())
    assert winner == kzoo.load_recipe(path) and winner.name == "digits-tuned"
    assert winner.digest() == recipe.override(state["winner"]["values"]).digest() != recipe.digest()
    assert set(configs.parse(path.read_text(), "winner")) == {"model", "arguments", "data", "train", "tuned"}
    header = "".join(line for line in path.read_text().splitlines(keepends=True) if line.startswith("#"))
    for told in ("random", "6 trials", "val_accuracy", "seed 0", "cnn_classifier/digits", recipe.digest()):
        assert told in header


def test_retraining_compares_winner_and_parent_over_seeds(tmp_path, trainer, capsys):
    recipe = parent().override({DROPOUT: 0.0})
    winner = kzoo.search(recipe, out=tmp_path / "s", retrain=3)
    result, said = winner.results[0], capsys.readouterr().err
    expected = [score(winner) - 0.1 / 9 + 0.001 * seed for seed in range(3)]
    assert (result["metric"], result["seeds"]) == ("test accuracy", [0, 1, 2])
    assert result["date"] == "2026-01-02"  # of the trainings, whenever they are summed up
    assert result["mean"] == pytest.approx(expected[1], abs=1e-5) and result["std"] == pytest.approx(0.001)
    retrained = json.loads((tmp_path / "s/search.json").read_text())["retrained"]
    assert retrained["parent"]["mean"] == pytest.approx(score(recipe) - 0.1 / 9 + 0.001, abs=1e-5)
    assert "winner  test accuracy" in said and "parent  test accuracy" in said
    # Once more costs nothing and keeps the results, also without asking for them.
    trainer.calls.clear()
    assert kzoo.search(recipe, out=tmp_path / "s", retrain=3).results[0]["mean"] == result["mean"]
    assert kzoo.search(recipe, out=tmp_path / "s").results[0]["mean"] == result["mean"]
    assert not trainer.calls


def test_the_hours_of_a_search_are_those_until_its_last_trial_ended(tmp_path, trainer, monkeypatch):
    minutes = types.SimpleNamespace(monotonic=itertools.count(0, 60).__next__)  # each look at the clock is one later
    monkeypatch.setattr(sys.modules[Study.__module__], "time", minutes)
    winner = kzoo.search(parent().override({DROPOUT: 0.0}), out=tmp_path / "s", retrain=1)
    last = json.loads((tmp_path / "s/journal.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "end" and winner.tuned["hours"] == round(last["clock"] / 3600, 3) > 0


OFF = {"choices": [0.1, 0.2], "otherwise": "off"}
NESTED = {  # the last is inactive only where the one before is
    BATCH: {"choices": [8, 9]},
    RATE: {"choices": [0.1, 0.2], "when": {BATCH: 8}, "otherwise": 0.3},
    DROPOUT: {**OFF, "when": {RATE: [0.1, 0.2]}},
}

EXCLUDING = {
    BATCH: {"choices": [8, 9]},
    RATE: {"choices": [0.1, 0.2], "when": {BATCH: 8}},
    DROPOUT: {"choices": [0.1, 0.2], "when": {BATCH: 9, RATE: 0.1}},
}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"space": {}}, "has no search.space; its form is"),
        ({"tuner": "hyperband", "space": {"train.epochs": {"min": 2, "max": 4}}}, "hyperband sets the epochs"),
        ({"tuner": "hyperband", "min_epochs": 10}, "more than the 9 of train.epochs"),
        ({"tuner": "tpe"}, "tpe belongs to search.engine optuna; keras_tuner has random"),
        ({"engine": "optuna", "tuner": "hyperband"}, "hyperband belongs to search.engine keras_tuner"),
        ({"tuner": "hyperband", "pruner": "median"}, "ends hopeless trials itself"),
        ({"pruner": "median", "seeds": 2}, "set search.seeds to 1"),
        ({"engine": "optuna", "tuner": "grid"}, "a grid needs a step or choices for train.optimizer.learning_rate"),
        (
            {"space": {DROPOUT: {"choices": [0.1], "when": {BATCH: 32}}}},
            "'data.batch_size', which does not stand before",
        ),
        (
            {"space": {RATE: SPACE[RATE], DROPOUT: {"fixed": 0.1, "when": {RATE: 1e-3}}}},
            "which needs choices or a step",
        ),
        ({"space": {BATCH: {"choices": [8]}, DROPOUT: {"fixed": 0.1, "when": {BATCH: 9}}}}, "9, which it never is"),
        ({"space": {BATCH: {"choices": [8, 9]}, DROPOUT: {**OFF, "when": {BATCH: 8}}}}, "'off'"),
        ({"space": NESTED}, "'off'"),
        (
            {"space": {BATCH: {"choices": [8, 9]}, DROPOUT: {"fixed": 0.1, "when": {BATCH: []}}}},
            "is in no trial",
        ),
        ({"space": EXCLUDING}, "dropout is in no trial: no value of data.batch_size fits"),
        ({"space": {BATCH: {"min": 8.5, "max": 64}}}, "data.batch_size"),
        ({"space": {BATCH: {"min": 8, "max": 64, "step": 0.5}}}, "data.batch_size: .*8.0"),
        ({"space": {BATCH: {"choices": [32, "many"]}}}, "data.batch_size"),
        ({"space": {BATCH: {"min": 8, "max": 64, "step": 0}}}, "must be above 0"),
        ({"engine": "optuna", "tuner": "grid", "space": {BATCH: {"min": 8, "max": 64, "step": 0}}}, "must be above 0"),
        ({"space": {BATCH: {"min": 8, "max": 64, "step": 1, "log": True}}}, "must be above 1"),
        ({"space": {RATE: {"min": 0.1, "max": 1.0, "step": 1e-9}}}, "makes 900,000,001 values"),
    ],
)
def test_wrong_requests_are_refused_before_anything_starts(settings, told, tmp_path, trainer):
    with pytest.raises(RequestError, match=told):
        kzoo.search(parent(**settings), out=tmp_path / "s")
    assert not trainer.calls and not (tmp_path / "s").exists()


def test_hyperband_sets_the_steps_of_control_too():
    settings = {"tuner": "hyperband", "space": {"train.steps": {"choices": [5000, 9000]}}}
    with pytest.raises(RequestError, match=r"take train\.steps out of the space"):
        space.check(kzoo.load_recipe("dqn_mlp/cartpole", {"search": settings}))


def test_dry_run_describes_and_trains_nothing(trainer):
    from kzoo.search import dry_run

    told = dry_run(parent(space=DISCRETE, tuner="grid"))
    assert told["combinations"] == 6 and len(told["samples"]) == 3 and not trainer.calls
    assert (told["objective"], told["direction"]) == ("val_accuracy", "max")
    assert dry_run(parent())["combinations"] is None
    assert dry_run(parent(tuner="hyperband", min_epochs=1))["sweep"] == 9 + 3 + 1 + 5 + 2 + 3


def test_importing_the_search_is_light():
    code = "import sys, kzoo.search; sys.exit('tensorflow' in sys.modules or 'keras_tuner' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


TINY = {
    "arguments.filters": [4, 8],
    "arguments.blocks_per_stage": 1,
    "train.epochs": 2,
    "search": {"max_trials": 2, "space": {RATE: {"min": 1e-3, "max": 1e-2, "log": True}}},
}


@pytest.mark.slow
def test_real_trials_in_real_processes(tmp_path, command):
    """Two trials and a re-training; the winner's file then trains to the same figures at once and in two rungs."""
    recipe = kzoo.load_recipe("cnn_classifier/digits", TINY)
    winner = kzoo.search(recipe, out=tmp_path / "s", retrain=1)
    assert [r["status"] for r in table(tmp_path / "s")] == ["completed"] * 2
    assert 0 < winner.results[0]["mean"] <= 1 and winner.results[0]["std"] is None
    trained = command("train", tmp_path / "s/cnn_classifier/digits-tuned.yaml", "--out", tmp_path / "run", "--quiet")
    assert trained.code == 0 and Run(tmp_path / "run").summary["recipe"] == "digits-tuned"
    # A rung of hyperband, promoted: the copied run is taken up where it stopped.
    first, promoted = tmp_path / "rungs/0001", tmp_path / "rungs/0002"
    first.mkdir(parents=True)
    assert not process.train(first, winner, 1).reason
    process.inherit(first / "run", promoted / "run")
    assert not process.train(promoted, winner, None).reason
    straight = Run(tmp_path / "run").metrics()
    columns = [k for k in straight[0] if k != "seconds"]
    assert [[r[k] for k in columns] for r in Run(promoted / "run").metrics()] == [
        [r[k] for k in columns] for r in straight
    ]


@pytest.mark.slow
def test_a_search_killed_in_mid_trial_goes_on(tmp_path):
    settings = {**TINY, "train.epochs": 12}
    write_text(tmp_path / "digits.yaml", kzoo.load_recipe("cnn_classifier/digits", settings).dump(resolved=False))
    code = "import sys, kzoo; kzoo.search(sys.argv[1], out=sys.argv[2])"
    started = subprocess.Popen([sys.executable, "-c", code, tmp_path / "digits.yaml", tmp_path / "s"])
    run = tmp_path / "s/trials/0002/run"
    while not (run / "checkpoints/last.npz").is_file():
        assert started.poll() is None
        time.sleep(0.05)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    first = table(tmp_path / "s")[0]
    # The training dies with its search, in the middle.
    process._await_end(run)
    reached = len(Run(run).metrics())
    assert 1 <= reached < 12 and Run(run).summary is None
    checkpoint = os.stat(run / "recipe.yaml").st_mtime_ns
    winner = kzoo.search(tmp_path / "digits.yaml", out=tmp_path / "s")
    rows = table(tmp_path / "s")
    assert rows[0] == first and [r["epochs"] for r in rows] == ["12", "12"]
    assert os.stat(run / "recipe.yaml").st_mtime_ns == checkpoint  # the same run, not one that started again
    assert winner.train.optimizer.learning_rate in [float(r[RATE]) for r in rows]


# What the interpreter of a training runs before anything else: from its second epoch on it has no room.
FILLING = """
import errno, os
from pathlib import Path

fsync = os.fsync

def fill(handle):
    path = Path(os.readlink(f"/proc/self/fd/{handle}"))
    if "/trials/0002/" in str(path) and path.name.startswith(".last.") and path.with_name("last.npz").exists():
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    fsync(handle)

os.fsync = fill
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs Linux")
def test_a_real_trial_that_finds_no_room_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/sitecustomize.py").write_text(FILLING)
    recipe, out = kzoo.load_recipe("cnn_classifier/digits", TINY), tmp_path / "s"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "full"), os.environ.get("PYTHONPATH", "")]))
    with pytest.raises(DiskFull, match=r"0002/run/checkpoints/last\.npz cannot be written: No space left on device "):
        kzoo.search(recipe, out=out)
    assert [(r["status"], r["reason"]) for r in table(out)] == [("completed", ""), ("running", "")]
    first, run = table(out)[0], out / "trials/0002/run"
    begun = os.stat(run / "recipe.yaml").st_mtime_ns
    monkeypatch.delenv("PYTHONPATH")
    kzoo.search(recipe, out=out, resume=True)
    rows = table(out)
    assert rows[0] == first and [r["status"] for r in rows] == ["completed"] * 2
    assert [r["epoch"] for r in Run(run).metrics()] == ["0", "1"]
    assert os.stat(run / "recipe.yaml").st_mtime_ns == begun  # the same run, not one that started again
