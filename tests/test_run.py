"""A run's folder: made once, opened by its path or by a run."""

import concurrent.futures
import contextlib
import threading
from pathlib import Path

import kzoo


def test_a_run_is_opened_by_its_folder_or_by_a_run_of_it(tmp_path):
    run = kzoo.Run.create(kzoo.load_recipe("cnn_classifier/digits"), "digest", tmp_path / "run")
    assert kzoo.Run(run).path == kzoo.Run(str(run.path)).path == tmp_path / "run"


def test_runs_that_begin_in_the_same_second_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe, make, both = kzoo.load_recipe("cnn_classifier/digits"), Path.mkdir, threading.Barrier(2)

    def make_at_once(path, *arguments, **more):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1)
        make(path, *arguments, **more)

    monkeypatch.setattr(Path, "mkdir", make_at_once)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        one, other = (pool.submit(kzoo.Run.create, recipe, "digest") for _ in range(2))
    assert one.result().path != other.result().path
    assert one.result().path.parent == other.result().path.parent == Path("runs/cnn_classifier/digits")
