"""The tools that record figures."""

import itertools
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import kzoo
from kzoo.errors import RequestError
from kzoo.files import write_json
from kzoo.run import Run

TOOLS = Path(kzoo.__file__).resolve().parents[1] / "tools"

pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason="kzoo is not imported from a checkout")


def test_results_are_what_the_tool_writes():
    done = subprocess.run([sys.executable, TOOLS / "results.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def format_figures(**changes):
    door = {"ok": True, "max_difference": 1e-6, "tolerance": 1e-5, "agreement": 1.0, "latency_ms": 0.5}
    figures = {"signatures": {"network": door}, "bytes": 2_000_000, "opened_in": "litert", "refused": {}, "ok": True}
    return {**figures, "error": None, "cpu_seconds": {"write": 1.0, "verify": 2.0}} | changes


def test_every_cell_of_the_table_of_artefacts_is_verified_refused_or_failed(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import artefact_table

    lost = {"figure": "accuracy", "split": "test", "value": 0.5, "float": 0.9, "allowed": 0.02}
    wrong = {**format_figures()["signatures"]["network"], "ok": False, "max_difference": 1.0}
    formats = {
        "h5": format_figures(),
        "litert": format_figures(refused={"network": "it has no loops"}),
        "onnx": format_figures(ok=False, error="cannot be written: no such operator", signatures={}),
        "litert_int8": format_figures(ok=False, test=lost),
    }
    place = tmp_path / "cells" / "resnet--cifar10" / "float32"

    def cells(**more):
        (place / "export0.failed").mkdir(parents=True, exist_ok=True)
        (place / "export0.failed" / "verify.json").write_text(json.dumps({"formats": {**formats, **more}}))
        done = {"recipe": "resnet/cifar10", "dtype": "float32", "formats": [*formats, *more], "seconds": 9, "said": ""}
        (place / "done0.json").write_text(json.dumps(done))
        return artefact_table.document(tmp_path)

    text, sound = cells()
    assert sound and "4 cells: 2 verified, 2 refused with a reason." in text
    parts = [line.split("|") for line in text.splitlines() if line.startswith("| resnet")]
    rows = {p[2].strip(): p[-2].strip() for p in parts}
    assert rows == {"h5": "verified", "onnx": "refused (1)", "litert": "verified (2)", "litert_int8": "refused (3)"}
    for reason in (
        "1. cannot be written: no such operator",
        "2. no network: it has no loops",
        "3. its accuracy on the",
    ):
        assert reason in text
    text, sound = cells(keras=format_figures(ok=False, signatures={"network": wrong}))
    assert not sound and "FAILED" in text and "network differs by 1.0e+00" in text


def test_short_runs_are_of_every_recipe(tmp_path, monkeypatch):
    """With data that every machine has, and the recipe's own network."""
    monkeypatch.syspath_prepend(str(TOOLS))
    import short_runs

    for name in kzoo.list_recipes():
        recipe, own = short_runs.load(name, "float32", tmp_path), kzoo.load_recipe(name)
        try:
            recipe.check()
        except RequestError as error:  # an environment of an extra that is not installed
            assert "pip install 'kzoo[" in str(error), name
        changed = {k for k, v in recipe.arguments.items() if own.arguments.get(k) != v}
        assert changed <= {"num_classes", "backbone_weights"}, name


def test_a_run_of_an_earlier_recipe_is_not_recorded(tmp_path):
    """The folder holds a finished run of other settings, which is no result of the recipe as it stands."""
    recipe = kzoo.load_recipe("cnn_classifier/digits", {"train.epochs": 1, "arguments.filters": [4]})
    kzoo.train(recipe, out=tmp_path / "cnn_classifier" / "digits" / "s0")
    command = [sys.executable, TOOLS / "reproduce.py", "cnn_classifier/digits", "--seeds", "0", "--out", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 1 and "earlier form of cnn_classifier/digits" in done.stderr


def test_recorded_minutes_are_those_of_interrupted_work_too(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import reproduce

    time, own = [0.0], [0.0]
    folder = tmp_path / "cnn_classifier" / "digits" / "s0"
    recipe = kzoo.load_recipe("cnn_classifier/digits")

    def work(seconds, ends):
        def run(*_, **__):
            if not folder.is_dir():
                Run.create(recipe, recipe.digest(), folder)
            time[0] += seconds
            own[0] += seconds - 1
            if not ends:
                raise KeyboardInterrupt
            write_json(folder / "summary.json", {"training": {"seconds": own[0]}})

        monkeypatch.setattr(reproduce.subprocess, "run", run)
        return reproduce.train("cnn_classifier/digits", 0, tmp_path)[1]

    monkeypatch.setattr(reproduce.time, "perf_counter", lambda: time[0])
    for seconds in (100, 20):
        with pytest.raises(KeyboardInterrupt):
            work(seconds, ends=False)
    assert work(3, ends=True) == 123
    # What was killed at once told no time; the run's own clock has gone on all the same.
    folder.with_suffix(".seconds").write_text("3.0")
    assert work(0, ends=True) == 120
    folder.with_suffix(".seconds").unlink()
    assert work(0, ends=True) == 120
    # A run that is done anew has a new clock.
    shutil.rmtree(folder)
    folder.with_suffix(".seconds").write_text("1000")
    own[0] = 0.0
    assert work(5, ends=True) == 5


@pytest.mark.parametrize("engine", ["keras_tuner", "optuna"])
def test_a_search_in_a_table_counts_each_epoch_once(engine, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import bench_search as bench

    # The curve of a combination falls from 2 to its own end.
    ends = {bench.point(values): 0.1 + number / 1000 for number, values in enumerate(bench.combinations())}
    table = {point: [end + (2 - end) / epoch for epoch in range(1, 28)] for point, end in ends.items()}
    if engine == "optuna":
        recipe = bench.parent(engine=engine, tuner="tpe", pruner="median", min_epochs=3, max_trials=999)
        trace = bench.simulate(recipe, table, 400)
        # Whole trials come first; then most end early, and only whole ones count.
        assert [spent for spent, _ in trace[:5]] == [27, 54, 81, 108, 135] and len(trace) > 400 / 27 + 5
        steps = [b - a for (a, _), (b, _) in itertools.pairwise(trace)]
        pruned = [n for n, step in enumerate(steps, 1) if step < 27]
        assert pruned and all(trace[n][1] == trace[n - 1][1] for n in pruned)
        return
    random = bench.simulate(bench.parent(tuner="random", max_trials=999), table, 10 * 27)
    assert [spent for spent, _ in random] == [27 * n for n in range(1, 11)]
    recipe = bench.parent(tuner="hyperband", min_epochs=1, factor=3, max_trials=999)
    spent = [spent for spent, _ in bench.simulate(recipe, table, 100)]
    # 27 trials of one epoch, of which nine go on to three, three to nine, one to 27.
    assert [spent[n - 1] for n in (27, 36, 39, 40)] == [27, 45, 63, 81] and spent[-1] <= 100


def test_details_of_a_run_are_recorded_by_dotted_keys(small_detector, tmp_path):
    """The fixture stands for a recipe's run: what is asked for is in its figures, or named as missing."""
    program = (
        f"import sys; sys.path.insert(0, {str(TOOLS)!r})\n"
        "from reproduce import figure\nfrom kzoo.run import Run\n"
        f"run = Run({str(small_detector.path)!r})\n"
        "print(figure(run, 'test', 'map50'), figure(run, 'test', 'per_class.Car.support'))\n"
        "figure(run, 'test', 'per_class.Tram.f1')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    cars = json.loads((small_detector.path / "evaluation/test/figures.json").read_text())["per_class"]["Car"]["support"]
    assert done.stdout.split() == [str(small_detector.summary["test"]["map50"]), str(cars)]
    assert done.returncode == 1 and "has no figure per_class.Tram.f1 of its test part" in done.stderr


def test_learning_curves_end_with_the_last_evaluation(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    from types import SimpleNamespace

    import learning_curve

    runs = {}
    for seed, evaluations in ((0, 25), (1, 24)):
        (tmp_path / f"{seed}").mkdir()
        lines = [f"{n},{100 * n},{n + seed}.04" for n in range(1, evaluations + 1)]
        (tmp_path / f"{seed}" / "metrics.csv").write_text("\n".join(["epoch,steps,val_return", *lines]))
        runs[seed] = SimpleNamespace(path=tmp_path / f"{seed}", summary={"finished": f"2026-01-0{seed + 1}T00:00"})
    found = learning_curve.rows("mine", runs)
    assert list(found) == [f"mine, {n:,} steps" for n in range(300, 2401, 300)]
    assert found["mine, 2,400 steps"] == {"measured": "2026-01-02", "seed 0": 24.0, "seed 1": 25.0}


def test_a_recorded_command_names_no_path_of_this_machine(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    from measurements import command

    told = command(["/x/tools/bench.py", "/data/run", "--torch-python", "/venv/bin/python", "runs/a", "--write"])
    assert told == "python tools/bench.py PATH --torch-python TORCH_PYTHON runs/a --write"


def test_what_is_compared_fits_together(monkeypatch):
    """The classifier fills every stage of the small detectors, and of the frozen ones all but two are trained later."""
    monkeypatch.syspath_prepend(str(TOOLS))
    from compare_transfer import CLASSIFIER, ways

    from kzoo.tasks import freezing

    classifier = kzoo.build("cnn_classifier", **kzoo.load_recipe(CLASSIFIER).arguments)
    theirs = {layer.name: [w.shape for w in layer.weights] for layer in classifier.layers if layer.weights}
    changes = ways(Path("runs/c"), 4)
    assert [c["train.epochs"] for c in changes.values()] == [4, 4, 4]
    recipe = kzoo.load_recipe("vgg16_detector/bccd", list(changes.values())[-1])
    model = kzoo.build("vgg16_detector", **recipe.arguments)
    stages = [layer for layer in model.layers if layer.weights and layer.name.startswith("stage")]
    assert len(stages) == 26 and all(theirs[s.name] == [w.shape for w in s.weights] for s in stages)
    for layer in stages:
        layer.trainable = False
    thaw = freezing.Thaw(model, recipe.train.unfreeze)
    assert not thaw.to(0) and thaw.to(1)
    assert {layer.name[:6] for layer in stages if not layer.trainable} == {"stage1", "stage2"}
