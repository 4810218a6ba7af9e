"""Figures of detections against COCO's own code and against values computed by hand."""

import contextlib
import io

import numpy as np
import pytest

from kzoo.data.detection.truth import ANY, truth
from kzoo.tasks.detection import coco, kitti, voc
from kzoo.tasks.detection.detections import Detections


def detections(rows):
    """Rows of x1, y1, x2, y2, score, label."""
    array = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(array[:, :4].astype(np.float32), array[:, 4].astype(np.float32), array[:, 5].astype(np.int64))


def objects(rows, names=None, **more):
    """Rows of x1, y1, x2, y2, label."""
    array = np.array(rows, np.float64).reshape(-1, 5)
    found = truth(array[:, :4], names or [str(int(v)) for v in array[:, 4]], **more)
    return found.with_labels(array[:, 4], False)


def random_data(seed, pictures=40, classes=3, crowds=True):
    rng = np.random.default_rng(seed)
    truths, found = [], []
    for _ in range(pictures):
        count = rng.integers(0, 9)
        low, size = rng.uniform(0, 300, (count, 2)), np.exp(rng.uniform(2, 5.5, (count, 2)))
        boxes = np.concatenate([low, low + size], 1).astype(np.float32)
        labels, crowd = rng.integers(0, classes, count), (rng.random(count) < 0.15) & crowds
        truths.append(truth(boxes, ["x"] * count, ignored=crowd, regions=crowd).with_labels(labels, False))
        near = np.repeat(boxes, 2, 0) + rng.normal(0, 6, (2 * count, 4))
        far = np.concatenate([low, low + size[::-1]], 1)
        guesses = np.concatenate([near, far])
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 1)
        called = np.where(rng.random(len(guesses)) < 0.8, np.concatenate([np.repeat(labels, 2), labels]), 0)
        # Few different scores, so that ties are common.
        scores = np.round(rng.random(len(guesses)), 2)
        found.append(Detections(guesses.astype(np.float32), scores.astype(np.float32), called.astype(np.int64)))
    return truths, found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_coco_figures_are_those_of_pycocotools(seed):
    pycocotools = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    truths, found = random_data(seed)
    annotations, results = [], []
    for number, (t, d) in enumerate(zip(truths, found, strict=True)):
        for box, label, crowd in zip(t.boxes.astype(float), t.labels, t.regions, strict=True):
            wide, high = box[2:] - box[:2]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": int(label),
                    "bbox": [box[0], box[1], wide, high],
                    "area": wide * high,
                    "iscrowd": int(crowd),
                }
            )
        for box, score, label in zip(d.boxes.astype(float), d.scores, d.labels, strict=True):
            bbox = [box[0], box[1], *(box[2:] - box[:2])]
            result = {"image_id": number, "category_id": int(label), "bbox": bbox, "score": float(score)}
            results.append(result)
    with contextlib.redirect_stdout(io.StringIO()):
        base = pycocotools.COCO()
        base.dataset = {
            "images": [{"id": i} for i in range(len(truths))],
            "annotations": annotations,
            "categories": [{"id": i} for i in range(3)],
        }
        base.createIndex()
        judge = COCOeval(base, base.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    ours = coco.summary(truths, found, "abc")
    names = ("map", "map50", "map75", "map_small", "map_medium", "map_large")
    np.testing.assert_allclose([ours[n] for n in names], judge.stats[:6], rtol=0, atol=1e-9)


def test_average_precision_of_a_small_case_by_hand():
    truths = [objects([(0, 0, 10, 10, 0), (20, 0, 30, 10, 0)])]
    found = [detections([(0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.8, 0), (20, 0, 30, 10, 0.7, 0)])]
    matched = coco.match(truths, found, 0)
    assert matched.objects == 2
    precision, recall, _ = matched.curve(0)
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [0.5, 0.5, 1])
    # precision 1 up to recall 0.5 (51 of 101 recalls), 2/3 behind it
    assert coco.average_precision(matched)[0] == pytest.approx((51 + 50 * 2 / 3) / 101)
    areas = voc.average_precision(truths, found, 0)
    assert areas["voc"] == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert areas["voc07"] == pytest.approx((6 + 5 * 2 / 3) / 11)


def test_operating_points_by_hand():
    truths = [objects([(0, 0, 10, 10, 0), (20, 0, 30, 10, 1)])]
    found = [detections([(0, 0, 10, 10, 0.9, 0), (50, 50, 60, 60, 0.4, 0), (20, 0, 30, 10, 0.7, 1)])]
    matched = [coco.match(truths, found, label) for label in (0, 1)]
    assert coco.best_threshold(matched) == pytest.approx(0.7)
    assert coco.together(matched, 0.7) == {"precision": 1, "recall": 1, "f1": 1, "support": 2}
    assert coco.together(matched, 0.1) == pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 0.8, "support": 2})
    assert coco.at_threshold(matched[0], 0.95) == {"precision": 0, "recall": 0, "f1": 0, "support": 1}
    assert coco.best_threshold([coco.match(truths, [detections([])], 0)]) == 0.5


@pytest.mark.parametrize("metric", ["coco", "voc"])
def test_what_is_ignored_is_neither_right_nor_wrong(metric):
    # A difficult object that is found, an ignored region of any class that holds two detections, and an object.
    truths = [
        objects(
            [(0, 0, 10, 10, 0), (20, 0, 30, 10, 0), (40, 40, 100, 100, ANY)],
            ignored=[False, True, True],
            regions=[False, False, True],
        )
    ]
    rows = [(0, 0, 10, 10, 0.5, 0), (20, 0, 30, 10, 0.9, 0), (45, 45, 60, 60, 0.8, 0), (70, 70, 90, 90, 0.7, 0)]
    if metric == "coco":
        assert coco.average_precision(coco.match(truths, [detections(rows)], 0))[0] == 1
    else:
        assert voc.average_precision(truths, [detections(rows)], 0)["voc"] == 1


def test_voc_counts_a_second_detection_of_an_object_as_wrong():
    truths = [objects([(0, 0, 10, 10, 0), (40, 0, 50, 10, 0)])]
    found = [detections([(0, 0, 10, 10, 0.9, 0), (0, 0, 10, 9, 0.8, 0), (40, 0, 50, 10, 0.7, 0)])]
    assert voc.average_precision(truths, found, 0)["voc"] == pytest.approx(0.5 + 0.5 * 2 / 3)


# --- KITTI --------------------------------------------------------------------------------------------------------


def street(rows, **more):
    """Rows of KITTI's type and x1, y1, x2, y2."""
    names = [r[0] for r in rows]
    dont_care = [n == "DontCare" for n in names]
    found = truth([r[1:] for r in rows], names, ignored=dont_care, regions=dont_care, **more)
    return found.with_labels([0] * len(rows), False)


def ap(truths, found, difficulty="moderate", name="car"):
    return kitti.average_precision(truths, found, ["Car", "Pedestrian"], name, difficulty)


def test_kitti_perfect_detections_of_many_frames_reach_one():
    truths = [street([("Car", 0, 0, 60, 50)], truncation=[0], occlusion=[0]) for _ in range(100)]
    found = [detections([(0, 0, 60, 50, 0.5 + i / 400, 0)]) for i in range(100)]
    for difficulty in kitti.DIFFICULTIES:
        assert ap(truths, found, difficulty) == {"ap40": 1, "ap11": 1, "objects": 100}


def test_kitti_recalls_that_are_not_reached_count_zero():
    truths = [street([("Car", 0, 0, 60, 50)], truncation=[0], occlusion=[0]) for _ in range(80)]
    found = [detections([(0, 0, 60, 50, 0.9 - i / 400, 0)] if i < 40 else []) for i in range(80)]
    # Half of the objects are found: 21 thresholds, of which the first (recall 0) is out of the mean over 40.
    assert ap(truths, found)["ap40"] == pytest.approx(20 / 40)
    assert ap(truths, found)["ap11"] == pytest.approx(6 / 11)


@pytest.mark.parametrize(
    ("rows", "more"),
    [
        ([("Van", 200, 0, 260, 50)], {"truncation": [0, 0], "occlusion": [0, 0]}),
        ([("DontCare", 190, 0, 300, 90)], {"truncation": [0, -1], "occlusion": [0, -1]}),
        ([("Car", 200, 0, 260, 50)], {"truncation": [0, 0.9], "occlusion": [0, 0]}),
        ([("Car", 200, 0, 260, 50)], {"truncation": [0, 0], "occlusion": [0, 3]}),
    ],
    ids=["neighbour", "DontCare", "truncated", "occluded"],
)
def test_kitti_detections_of_what_does_not_count_are_no_errors(rows, more):
    truths = [street([("Car", 0, 0, 60, 50), *rows], **more) for _ in range(100)]
    found = [detections([(0, 0, 60, 50, 0.8, 0), (200, 0, 260, 50, 0.9, 0)]) for _ in range(100)]
    assert ap(truths, found)["ap40"] == 1
    assert ap(truths, found)["objects"] == 100


def test_kitti_a_detection_of_another_class_is_an_error_unless_it_is_small():
    truths = [street([("Car", 0, 0, 60, 50)], truncation=[0], occlusion=[0]) for _ in range(100)]
    wrong = [detections([(0, 0, 60, 50, 0.8, 0), (200, 0, 260, 50, 0.9, 0)]) for _ in range(100)]
    assert ap(truths, wrong)["ap40"] == pytest.approx(0.5)
    small = [detections([(0, 0, 60, 50, 0.8, 0), (200, 0, 230, 24, 0.9, 0)]) for _ in range(100)]
    assert ap(truths, small)["ap40"] == 1


def test_kitti_needs_more_overlap_for_cars_than_for_people():
    truths = [
        street([("Car", 0, 0, 60, 50), ("Pedestrian", 100, 0, 130, 80)], truncation=[0, 0], occlusion=[0, 0])
    ] * 50
    rows = [(0, 0, 60, 34, 0.9, 0), (100, 0, 130, 54, 0.9, 1)]  # IoU 0.68 and 0.675
    found = [detections(rows)] * 50
    assert ap(truths, found)["ap40"] == 0
    assert ap(truths, found, name="Pedestrian")["ap40"] == 1
    assert set(kitti.summary(truths, found, ["Car", "Pedestrian", "Tree"])) == {"Car", "Pedestrian"}
