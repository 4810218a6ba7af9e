"""Training and judging a detector, small."""

import json
import os

import numpy as np
import pytest

import kzoo
from tests.conftest import TINY_DETECTOR


def test_a_run_holds_what_it_takes_to_go_on_and_to_answer(small_detector):
    resolved = small_detector.recipe
    assert resolved.arguments["num_classes"] == 2 and len(resolved.data.mean) == 3
    assert small_detector.card["labels"] == ["Car", "Pedestrian"]
    assert {"val_map50", "val_f1", "boxes_loss", "classes_loss"} <= set(small_detector.metrics()[0])
    assert small_detector.summary["test"]["pictures"] == 20
    figures = json.loads((small_detector.path / "evaluation" / "test" / "figures.json").read_text())
    assert set(figures["per_class"]) == {"Car", "Pedestrian"} == set(figures["kitti"])
    assert (small_detector.path / "evaluation" / "test" / "precision_recall.png").read_bytes().startswith(b"\x89PNG")


def test_a_training_that_stops_between_epochs_ends_where_the_whole_one_ends(small_detector, tmp_path):
    recipe = kzoo.load_recipe("vgg16_detector/scenes", TINY_DETECTOR)
    kzoo.train(recipe, out=tmp_path / "run", until=1)
    resumed = kzoo.resume(tmp_path / "run")
    for name in ("last", "best"):
        with np.load(small_detector.checkpoint(name)) as whole, np.load(resumed.checkpoint(name)) as parts:
            theirs = {k.partition("@")[0]: parts[k] for k in parts.files if k != "document"}
            for key in whole.files:
                if key != "document":
                    assert np.array_equal(whole[key], theirs[key.partition("@")[0]]), key
    assert resumed.summary["test"] == small_detector.summary["test"]


def test_weights_of_a_classifier_are_carried_over_and_frozen(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    np.savez(tmp_path / "d.npz", x_train=pixels, y_train=np.arange(40) % 2)
    classifier = kzoo.load_recipe(
        "cnn_classifier/digits",
        {
            "arguments.filters": [4, 8, 16, 32],
            "arguments.blocks_per_stage": [2, 2, 3, 3],
            "arguments.head": "global_average",
            "data.source": f"npz:{tmp_path / 'd.npz'}",
            "data.batch_size": 8,
            "train.epochs": 1,
            "train.steps_per_epoch": 1,
        },
    )
    source = kzoo.train(classifier, out=tmp_path / "classifier")
    recipe = kzoo.load_recipe(
        "vgg16_detector/scenes",
        {**TINY_DETECTOR, "train.epochs": 1, "train.weights": str(source.path), "train.freeze": ["stage[12]_"]},
    )
    trained = kzoo.load(kzoo.train(recipe, out=tmp_path / "detector").path)
    given = kzoo.load(source.path)
    kept = [
        np.array_equal(*(m.get_layer(f"stage{s}_block1_conv").get_weights()[0] for m in (given, trained)))
        for s in (1, 4)
    ]
    assert kept == [True, False]
    how = kzoo.Run(tmp_path / "detector").recipe.data
    assert list(how.mean) == source.card["preprocessing"]["mean"], "pictures are taken as the classifier took them"
    other = recipe.override({"arguments.width": 0.1})
    with pytest.raises(kzoo.RequestError, match="no layer has the name and shape"):
        kzoo.train(other, out=tmp_path / "other")


def test_weights_that_cannot_be_had_are_missed_before_the_data_are_opened(tmp_path, monkeypatch):
    from kzoo.tasks.detection.task import Task

    def open(self):
        raise AssertionError("the data were opened")

    monkeypatch.setattr(Task, "open", open)
    changes = {"arguments.backbone_weights": "/nowhere.h5", "arguments.width": 1.0, "arguments.batch_norm": False}
    with pytest.raises(kzoo.RequestError, match="there is no file /nowhere.h5"):
        kzoo.train(kzoo.load_recipe("vgg16_detector/scenes", changes), out=tmp_path / "run")


def test_kitti_of_tfds_is_told_to_lack_what_the_protocol_needs():
    from types import SimpleNamespace

    from kzoo.data.detection.collection import Problems
    from kzoo.tasks.detection.task import Task

    task = Task(kzoo.load_recipe("vgg16_detector/kitti"))
    task.collection = SimpleNamespace(problems=Problems("skip"))
    assert "protocol takes its folder, vgg16_detector/kitti-folder" in task.notes()[0]


def test_a_recipe_that_does_not_fit_is_refused_before_a_folder_is_made(tmp_path):
    for overrides, message in (
        ({"arguments.num_classes": 5}, "num_classes is 5, and the data have 2 classes: Car, Pedestrian"),
        ({"train.monitor": "val_accuracy"}, "no figure 'val_accuracy'"),
        ({"data.source": "kitti"}, "needs its folder"),
        ({"arguments.backbone_weights": "/nowhere.h5", "arguments.width": 1.0}, "only width 1 without batch_norm"),
        ({"train.steps_per_execution": 6}, "is 6, and an epoch has 5 steps"),
    ):
        with pytest.raises(kzoo.RequestError, match=message):
            kzoo.train(kzoo.load_recipe("vgg16_detector/scenes", {**TINY_DETECTOR, **overrides}), out=tmp_path / "run")
        assert not os.path.exists(tmp_path / "run")


def test_mean_and_deviation_come_together():
    with pytest.raises(kzoo.RequestError, match="data: takes mean and std together"):
        kzoo.load_recipe("vgg16_detector/scenes", {"data.mean": [1.0, 2.0, 3.0]})
