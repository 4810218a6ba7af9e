"""What default boxes can match, and the sheet of training pictures."""

import json

import numpy as np
import pytest

import kzoo
from kzoo.data.detection.truth import truth
from kzoo.tasks.detection import coverage, drawing
from tests.conftest import TINY_DETECTOR

FEW = {**TINY_DETECTOR, "data.limit": 8}


def test_coverage_counts_what_a_hand_computes():
    # one default box of 20x20 pixels on an input of 100x200, and objects that cover it by 1, 0.6 and 0.3
    defaults = np.array([[0.5, 0.5, 0.1, 0.2]])
    objects = np.array([[0.45, 0.4, 0.55, 0.6], [0.45, 0.4, 0.51, 0.6], [0.45, 0.4, 0.48, 0.6]])
    rows = coverage.report(objects, np.array([0, 0, 1]), ["a", "b"], defaults, (100, 200), 0.7)
    first, tiny, small = rows[:3]
    assert (first["class"], first["size"], first["objects"]) == ("a", "all", 2)
    assert (first["matched"], first["matched_50"]) == (0.5, 1.0)
    np.testing.assert_allclose([first["mean_iou"], first["width"], first["height"]], [0.8, 16, 20])
    assert (tiny["size"], tiny["matched"], small["size"], small["matched"]) == ("tiny", 0.0, "small", 1.0)
    assert rows[-1]["class"] == "all" and sum(r["objects"] for r in rows if r["size"] == "all") == 6


def test_shapes_are_those_that_the_objects_have():
    rng = np.random.default_rng(0)
    sides = np.concatenate([np.array(s) * rng.uniform(0.95, 1.05, (50, 2)) for s in ((10, 30), (40, 20), (90, 80))])
    found, iou = coverage.shapes(sides, 3)
    np.testing.assert_allclose(found, [[10, 30], [40, 20], [90, 80]], rtol=0.03)
    assert 0.93 < iou < 1
    few, iou = coverage.shapes(np.array([[3.0, 4.0], [3.0, 4.0]]), 5)
    assert few.tolist() == [[3, 4]] and iou == 1


def test_a_sheet_shows_boxes_where_the_objects_are():
    pixels = np.zeros((360, 360, 3), np.uint8)
    known = truth([[0.5, 0.5, 0.75, 0.75], [0, 0, 0.2, 0.2]], ["a", "a"], ignored=[False, True]).with_labels(
        [0, 0], False
    )
    drawn = drawing.with_truth(pixels, known, ["a"])
    assert tuple(drawn[180, 200]) == drawing.colour_of(0) and len(set(drawn[0, 20].tolist())) == 1
    page = drawing.sheet([drawn, drawn, drawn])
    assert page.shape == (2 * 360 + 4, 2 * 360 + 4, 3)
    assert np.array_equal(page[364:, :360], drawn) and (page[364:, 364:] == 255).all()


def test_inspect_draws_augmented_pictures_and_counts(tmp_path):
    recipe = kzoo.load_recipe("vgg16_detector/scenes", FEW)
    found = kzoo.inspect(recipe, out=tmp_path / "sheet.png", pictures=5)
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG") and not found["notes"]
    assert set(found["classes"]) == {"train", "validation", "test"} and found["classes"]["train"]["Car"] > 0
    kzoo.inspect(recipe, out=tmp_path / "plain.png", pictures=5, plain=True)
    assert (tmp_path / "plain.png").read_bytes() != (tmp_path / "sheet.png").read_bytes()
    with pytest.raises(kzoo.RequestError, match=r"sheet\.txt cannot be written: unknown file extension"):
        kzoo.inspect(recipe, out=tmp_path / "sheet.txt", pictures=1)


def test_anchors_by_command(command):
    sets = [part for key, value in FEW.items() for part in ("--set", f"{key}={value}")]
    done = command("anchors", "vgg16_detector/scenes", *sets, "--shapes", 3, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["input"] == [64, 192] and len(found["shapes"]) == 3
    assert {r["class"] for r in found["rows"]} == {"Car", "Pedestrian", "all"}


def test_other_tasks_have_no_default_boxes():
    with pytest.raises(kzoo.RequestError, match="the task classification has no default boxes"):
        kzoo.anchors("cnn_classifier/digits")
    with pytest.raises(kzoo.RequestError, match="builtin:scenes has no val part; it has"):
        kzoo.anchors(kzoo.load_recipe("vgg16_detector/scenes", FEW), split="val")
