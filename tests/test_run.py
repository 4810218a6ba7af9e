"""A run's folder: made once, opened by its path or by a run."""

import concurrent.futures
import contextlib
import importlib
import threading
from pathlib import Path

import pytest

import kzoo

CURVE = {"recall": [0.0, 0.5], "precision": [1.0, 0.5]}
POINT = {"map50": 0.5, "recall": 0.5, "precision": 0.5}
DRAWN = {
    "classification": ("draw_confusion_matrix", [[3, 1], [0, 4]], ("a", "b")),
    "control": ("draw_returns", [1.0, 2.0]),
    "detection": ("draw_curves", {"curves": {"a": CURVE}, "per_class": {"a": POINT}, "threshold": 0.3, "f1": 0.4}),
}


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


@pytest.mark.parametrize("task", DRAWN)
def test_a_picture_of_figures_appears_whole_or_not_at_all(task, tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    name, *what = DRAWN[task]
    draw, path = getattr(importlib.import_module(f"kzoo.tasks.{task}.figures"), name), tmp_path / "picture.png"
    whole = draw(*what, path).read_bytes()

    def killed(figure, place, **how):
        Path(place).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", killed)
    with pytest.raises(KeyboardInterrupt):
        draw(*what, path)
    assert path.read_bytes() == whole and list(tmp_path.iterdir()) == [path]
