"""The tools that record figures."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import kzoo

TOOLS = Path(kzoo.__file__).resolve().parents[1] / "tools"

pytestmark = pytest.mark.skipif(not TOOLS.is_dir(), reason="kzoo is not imported from a checkout")


def test_results_are_what_the_tool_writes():
    done = subprocess.run([sys.executable, TOOLS / "results.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_run_of_an_earlier_recipe_is_not_recorded(tmp_path):
    """The folder holds a finished run of other settings, which is no result of the recipe as it stands."""
    recipe = kzoo.load_recipe("cnn_classifier/digits", {"train.epochs": 1, "arguments.filters": [4]})
    kzoo.train(recipe, out=tmp_path / "cnn_classifier" / "digits" / "s0")
    command = [sys.executable, TOOLS / "reproduce.py", "cnn_classifier/digits", "--seeds", "0", "--out", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 1 and "earlier form of cnn_classifier/digits" in done.stderr


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


def test_what_is_compared_fits_together(monkeypatch):
    """The classifier fills every stage of the small detectors, and of the frozen ones all but two are trained later."""
    monkeypatch.syspath_prepend(str(TOOLS))
    from compare_transfer import CLASSIFIER, shortened, ways

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
    given = ["--root", "/data", "--epochs", "4", "--out", "/tmp/x", "--write"]
    assert shortened(given, {"--root": "FOLDER", "--out": None}) == ["--root", "FOLDER", "--epochs", "4", "--write"]
