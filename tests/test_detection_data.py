"""Sources of pictures with objects: layouts, classes, what is ignored, what is damaged."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.data.detection import scenes
from kzoo.data.detection.collection import ObjectReading, hold_out
from kzoo.data.detection.sources import check, kitti, located, open_collection, voc
from kzoo.data.detection.truth import ANY

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def save(path, size=(60, 80), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


def label(kind, *box, truncation=0.0, occlusion=0):
    numbers = " ".join(format(v, ".2f") for v in box)
    return f"{kind} {truncation:.2f} {occlusion} -1.57 {numbers} 1.5 1.6 3.9 1.0 1.5 20.0 -1.5\n"


@pytest.fixture
def kitti_root(tmp_path):
    """Six pictures: two good ones for training, one to be judged by, and three with something wrong."""
    root = tmp_path / "kitti"
    images, labels = root / "training" / "image_2", root / "training" / "label_2"
    labels.mkdir(parents=True)
    for number in range(6):
        save(images / f"{number:06d}.png", seed=number)
    good = label("Car", 5, 5, 40, 30) + label("Van", 50, 5, 79, 30) + label("DontCare", 0, 40, 20, 59, truncation=-1)
    (labels / "000000.txt").write_text(good)
    (labels / "000001.txt").write_text(label("Pedestrian", 10, 10, 20, 50, truncation=0.2, occlusion=2))
    (labels / "000002.txt").write_text("")
    (labels / "000003.txt").write_text(label("Car", 30, 10, 30, 20) + label("Car", 70, 50, 95, 65))
    # 000004 has no label file
    (labels / "000005.txt").write_text("Car 0 0\n")
    (root / "split").mkdir()
    (root / "split" / "train.txt").write_text("000000\n000001\n000003\n000004\n000005\n000009\n")
    (root / "split" / "val.txt").write_text("000002\n")
    return root


def test_a_kitti_folder(kitti_root):
    found = open_collection("kitti", ObjectReading(root=str(kitti_root), class_map={"Van": "Car"}))
    assert found.classes == ("Car", "Pedestrian")
    train = found.parts["train"]
    first = train.truths[0]
    assert first.labels.tolist() == [0, 0, ANY] and first.ignored.tolist() == [False, False, True]
    assert first.names == ("Car", "Van", "DontCare"), "the protocol asks for what KITTI calls them"
    np.testing.assert_allclose(first.boxes[0], [5, 5, 40, 30])
    assert (train.truths[1].truncation, train.truths[1].occlusion) == (pytest.approx(0.2), 2)
    # A picture without objects is one, and the box that has no area is none; the other is cut to the picture.
    assert [len(t) for t in found.parts["validation"].truths] == [0]
    np.testing.assert_allclose(train.truths[2].boxes, [[70, 50, 80, 60]])
    notes = "\n".join(found.problems.notes())
    assert "1 degenerate boxes left out:" in notes and "000003.png (Car at 30, 10, 30, 20)" in notes
    assert "1 pictures without a label file left out:" in notes and "000004.png" in notes
    assert "000005.txt (line 1 has 3 fields" in notes and "000009" in notes


def test_what_is_wrong_stops_the_work_where_the_recipe_says_so(kitti_root):
    with pytest.raises(kzoo.RequestError, match=r"degenerate boxes: .*000003\.png|without a label file: .*000004"):
        open_collection("kitti", ObjectReading(root=str(kitti_root), on_corrupt="stop"))


def test_a_label_file_that_the_system_does_not_give_is_named_and_left_out(kitti_root):
    label = kitti_root / "training" / "label_2" / "000001.txt"
    label.unlink()
    label.symlink_to("/proc/self/mem")  # a file whose first byte nobody can read
    found = open_collection("kitti", ObjectReading(root=str(kitti_root), class_map={"Van": "Car"}))
    assert [Path(found.parts["train"].name(n)).stem for n in range(2)] == ["000000", "000003"]
    assert "000001.txt ([Errno" in "\n".join(found.problems.notes())


def test_classes_are_chosen_and_mapped_by_name(kitti_root):
    reading = ObjectReading(root=str(kitti_root), classes=("Pedestrian",), unlisted="background")
    found = open_collection("kitti", reading)
    assert found.classes == ("Pedestrian",)
    assert found.parts["train"].truths[0].names == ("DontCare",), "cars are background, DontCare still is not"
    reading = ObjectReading(root=str(kitti_root), classes=("Pedestrian",))
    assert open_collection("kitti", reading).parts["train"].truths[0].ignored.all(), "cars are ignored by default"
    mapped = ObjectReading(root=str(kitti_root), class_map={"Van": "background", "Car": "ignore"})
    found = open_collection("kitti", mapped)
    assert found.classes == ("Pedestrian",) and found.parts["train"].truths[0].labels.tolist() == [ANY, ANY]


@pytest.mark.parametrize(
    ("reading", "message"),
    [
        ({"classes": ("Cat",)}, "no class 'Cat'"),
        ({"classes": ("Car", "Pedestrian", "Car")}, "names Car twice"),
        ({"classes": ("Car",), "class_map": {"Van": "Carr"}}, "Van becomes 'Carr', .*did you mean 'Car'"),
        ({"parts": {"test": "tset"}}, "no 'tset' for test; it has train, val"),
        ({"root": "/nowhere"}, "/nowhere: there is no such folder"),
        ({"root": None}, "needs its folder: --set data.root=FOLDER"),
        ({"root": "/tmp"}, "not in KITTI's layout: it has no folder training/image_2"),
    ],
)
def test_wrong_requests_are_one_sentence(kitti_root, reading, message):
    with pytest.raises(kzoo.RequestError, match=message):
        open_collection("kitti", ObjectReading(**{"root": str(kitti_root), **reading}))


def test_parts_are_what_the_recipe_calls_them(kitti_root):
    reading = ObjectReading(root=str(kitti_root), parts={"train": "train", "test": "val"})
    assert set(open_collection("kitti", reading).parts) == {"train", "test"}


def test_what_no_list_names_is_trained_on_where_none_does_it(kitti_root):
    (kitti_root / "split" / "train.txt").unlink()
    found = open_collection("kitti", ObjectReading(root=str(kitti_root)))
    assert [found.parts["train"].name(n)[-10:] for n in range(3)] == ["000000.png", "000001.png", "000003.png"]
    assert [n[-10:] for n in found.parts["validation"].pictures.names] == ["000002.png"], "what is listed stays apart"
    asked = open_collection("kitti", ObjectReading(root=str(kitti_root), parts={"test": "val"}))
    assert {k: len(v) for k, v in asked.parts.items()} == {"train": 3, "test": 1}


def test_a_part_without_pictures_says_why(kitti_root):
    (kitti_root / "split" / "train.txt").write_text("000004\n000009\n")
    with pytest.raises(kzoo.RequestError, match=r"with labels: 1 pictures that a list .*000009; 1 pictures without"):
        open_collection("kitti", ObjectReading(root=str(kitti_root)))


def test_a_list_that_is_no_text_is_named(kitti_root):
    (kitti_root / "split" / "train.txt").write_bytes(b"\xff\xfe0\0")
    with pytest.raises(kzoo.RequestError, match=r"train\.txt cannot be read: 'utf-8' codec"):
        open_collection("kitti", ObjectReading(root=str(kitti_root)))


def test_pictures_that_cannot_be_read_are_named_and_left_out(kitti_root):
    (kitti_root / "training" / "image_2" / "000001.png").write_bytes(b"nothing")
    broken = kitti_root / "training" / "image_2" / "000000.png"
    broken.write_bytes(broken.read_bytes()[:2000])  # a header and no more
    found = open_collection("kitti", ObjectReading(root=str(kitti_root)))
    train = found.parts["train"]
    assert len(train) == 2 and train.picture(0) is None and train.picture(1).shape == (60, 80, 3)
    assert "2 unreadable pictures" in "\n".join(found.problems.notes())


@pytest.mark.parametrize("chunk", ["sides", "text"])
def test_a_picture_that_would_fill_the_memory_is_left_out(kitti_root, chunk):
    side = 30_000 if chunk == "sides" else 8
    parts = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))]
    parts += [(b"zTXt", b"a\0\0" + zlib.compress(bytes(1 << 21)))] if chunk == "text" else []
    parts += [(b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts]
    (kitti_root / "training" / "image_2" / "000001.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    found = open_collection("kitti", ObjectReading(root=str(kitti_root)))
    assert len(found.parts["train"]) == 2 and "1 unreadable pictures" in "\n".join(found.problems.notes())


def test_a_label_line_in_kittis_own_form():
    found = kitti.parse("Truck 0.00 1 -1.57 599.41 156.40 629.75 189.25 2.85 2.63 12.34 0.47 1.49 69.44 -1.56\n")
    assert found.names == ("Truck",) and found.occlusion.tolist() == [1]
    np.testing.assert_allclose(found.boxes, [[599.41, 156.40, 629.75, 189.25]], rtol=1e-6)


ANNOTATION = """<annotation><object><name>dog</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>11</ymin>
<xmax>40</xmax><ymax>50</ymax></bndbox></object><object><name>cat</name><difficult>1</difficult><bndbox><xmin>21</xmin>
<ymin>11</ymin><xmax>60.5</xmax><ymax>50</ymax></bndbox></object></annotation>"""


def test_a_voc_folder(tmp_path):
    for number in range(3):
        save(tmp_path / "JPEGImages" / f"{number}.jpg", seed=number)
        (tmp_path / "Annotations").mkdir(exist_ok=True)
        (tmp_path / "Annotations" / f"{number}.xml").write_text(ANNOTATION)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("0\n1\n")
    (tmp_path / "ImageSets" / "Main" / "test.txt").write_text("2\n")
    found = open_collection("voc", ObjectReading(root=str(tmp_path)))
    assert found.classes == ("cat", "dog") and {k: len(v) for k, v in found.parts.items()} == {"train": 2, "test": 1}
    truth = found.parts["test"].truths[0]
    # VOC's first pixel is 1, and its last one is inside the box.
    np.testing.assert_allclose(truth.boxes, [[0, 10, 40, 50], [20, 10, 60.5, 50]])
    assert truth.labels.tolist() == [1, 0] and truth.ignored.tolist() == [False, True]
    assert located("voc", ObjectReading(root=str(tmp_path))) == {"source": "voc", "root": str(tmp_path.resolve())}


@pytest.mark.parametrize(
    "text",
    [
        b"<annotation>",
        b"<!DOCTYPE a [<!ENTITY x 'y'>]><a/>",
        b"<a><object/></a>",
        b'<?xml version="1.0" encoding="utf-99"?><a/>',
        ANNOTATION.replace("<name>dog</name>", "").encode(),
    ],
)
def test_annotations_that_are_none(text):
    with pytest.raises(ValueError):
        voc.parse(text)


def test_unknown_sources_name_the_known_ones():
    with pytest.raises(kzoo.RequestError, match="did you mean 'kitti'"):
        check("kiti", ObjectReading())
    with pytest.raises(kzoo.RequestError, match="no built-in data set 'digits' for detection"):
        check("builtin:digits", ObjectReading())


def test_holding_out_is_the_same_for_the_same_seed():
    part = open_collection("builtin:scenes", ObjectReading(limit=10)).parts["train"]
    (stays, held), (again, _) = hold_out(part, 0.3, 1), hold_out(part, 0.3, 1)
    assert len(held) == 3 and sorted([*stays.places, *held.places]) == list(range(10))
    assert stays.places.tolist() == again.places.tolist()
    assert np.array_equal(held.picture(0), part.picture(int(held.places[0])))


# --- drawn scenes -------------------------------------------------------------------------------------------------


def test_a_scene_is_a_function_of_its_seed():
    (first, a), (again, b), (other, _) = scenes.draw((1, 2)), scenes.draw((1, 2)), scenes.draw((1, 3))
    assert np.array_equal(first, again) and np.array_equal(a.boxes, b.boxes) and not np.array_equal(first, other)
    assert first.shape == (scenes.HEIGHT, scenes.WIDTH, 3) and first.dtype == np.uint8


def test_scenes_that_are_drawn_anew_are_others_in_each_pass_and_the_same_for_the_same_pass():
    def train(anew):
        reading = ObjectReading(limit=6, classes=("Car", "Pedestrian"), class_map={"Van": "Car"}, anew=anew)
        return open_collection("builtin:scenes", reading).parts["train"]

    held, fresh = train(anew=False), train(anew=True)
    for number in range(6):
        (first, a), (second, b), (again, c) = (fresh.shown(number, turn) for turn in (0, 1, 1))
        assert np.array_equal(first, held.picture(number)) and a.names == held.truths[number].names
        assert not np.array_equal(first, second) and held.shown(number, 1)[0] is held.picture(number)
        assert np.array_equal(second, again) and b.labels.tolist() == c.labels.tolist()
        assert [b.labels[i] for i, n in enumerate(b.names) if n == "Van"] == [0] * b.names.count("Van")
    stays, _ = hold_out(fresh, 0.5, 0)
    assert np.array_equal(stays.shown(1, 2)[0], fresh.shown(int(stays.places[1]), 2)[0])


def test_scenes_have_what_kitti_labels_say():
    truths = [scenes.draw((5, n))[1] for n in range(40)]
    names = [n for t in truths for n in t.names]
    assert {"Car", "Van", "Pedestrian", "DontCare"} == set(names)
    boxes = np.concatenate([t.boxes for t in truths])
    assert (boxes[:, 2:] > boxes[:, :2]).all() and (boxes >= 0).all()
    assert (boxes <= [scenes.WIDTH, scenes.HEIGHT] * 2).all()
    counted = np.concatenate([~t.ignored for t in truths])
    assert set(np.concatenate([t.occlusion for t in truths])[counted]) == {0, 1, 2}
    heights = boxes[:, 3] - boxes[:, 1]
    assert heights[counted].min() >= 12 and heights.max() > 50


# --- real data ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (SHARED / "BCCD").is_dir(), reason="the BCCD data are not here")
def test_bccd_has_its_three_classes_and_its_two_boxes_without_area():
    found = open_collection("voc", ObjectReading(root=str(SHARED / "BCCD")))
    assert found.classes == ("Platelets", "RBC", "WBC")
    assert {k: len(v) for k, v in found.parts.items()} == {"train": 205, "validation": 87, "test": 72}
    notes = found.problems.notes()
    assert len(notes) == 1 and "2 degenerate boxes" in notes[0]
    assert "BloodImage_00338" in notes[0] and "BloodImage_00343" in notes[0]


@pytest.mark.skipif(not (SHARED / "street_kitti").is_dir(), reason="the street_kitti data are not here")
def test_street_kitti_opens_with_its_parts():
    found = open_collection(
        "kitti", ObjectReading(root=str(SHARED / "street_kitti"), classes=("Car", "Pedestrian", "Cyclist"))
    )
    assert {k: len(v) for k, v in found.parts.items()} == {"train": 509, "validation": 213}
    assert not found.problems.notes()
