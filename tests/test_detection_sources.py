"""COCO, YOLO and TFDS sources on small files."""

import json

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.data.detection.collection import ObjectReading
from kzoo.data.detection.sources import check, coco, located, open_collection, yolo
from kzoo.data.detection.truth import ANY
from kzoo.tasks import open_task


def save(path, size=(60, 80), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)


# --- COCO ---------------------------------------------------------------------------------------------------------

CONTENT = {
    "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 9, "file_name": "b.jpg"}, {"id": 11, "file_name": "gone.jpg"}],
    "annotations": [
        {"image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 15.5]},
        {"image_id": 7, "category_id": 1, "bbox": [0, 0, 80, 60], "iscrowd": 1},
        {"image_id": 7, "category_id": 1, "bbox": [5, 5, 0, 10]},
        {"image_id": 7, "category_id": 99, "bbox": [5, 5, 3, 10]},
        {"image_id": 8, "category_id": 1, "bbox": [5, 5, 3, 10]},
    ],
    "categories": [{"id": 3, "name": "car"}, {"id": 1, "name": "person"}],
}


@pytest.fixture
def coco_root(tmp_path):
    for name in ("a", "b"):
        save(tmp_path / "train2017" / f"{name}.jpg")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_train2017.json").write_text(json.dumps(CONTENT))
    (tmp_path / "annotations" / "captions_train2017.json").write_text("{}")
    return tmp_path


def test_a_coco_folder(coco_root):
    found = open_collection("coco", ObjectReading(root=str(coco_root)))
    assert found.classes == ("person", "car"), "in the order of their numbers"
    first, second = found.parts["train"].truths
    np.testing.assert_allclose(first.boxes, [[10, 20, 40, 35.5], [0, 0, 80, 60]])
    assert first.labels.tolist() == [1, 0] and first.regions.tolist() == [False, True] == first.ignored.tolist()
    assert len(second) == 0, "a picture without annotations has no objects"
    notes = "\n".join(found.problems.notes())
    assert "1 degenerate boxes" in notes and "annotation 3: lacks or does not know 99" in notes
    assert "annotation 4: its image_id is that of no image" in notes and "gone.jpg" in notes
    assert located("coco", ObjectReading(root=str(coco_root)))["root"] == str(coco_root.resolve())


def test_annotations_beside_their_pictures(tmp_path):
    for part in ("train", "valid"):
        save(tmp_path / part / "a.jpg")
        content = {**CONTENT, "images": CONTENT["images"][:1], "annotations": CONTENT["annotations"][:1]}
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps(content))
    assert set(open_collection("coco", ObjectReading(root=str(tmp_path))).parts) == {"train", "validation"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is no annotation file of COCO: it is not of COCO's form"),
        ("{", "is no annotation file of COCO"),
        ('{"images": [], "annotations": []}', "lacks the key 'categories'"),
        ('{"images": [], "annotations": null, "categories": []}', "it is not of COCO's form"),
        pytest.param("[" * 100_000, "is no annotation file of COCO", id="deep"),
    ],
)
def test_coco_files_that_are_none(coco_root, content, message):
    (coco_root / "annotations" / "instances_train2017.json").write_text(content)
    with pytest.raises(kzoo.RequestError, match=message):
        open_collection("coco", ObjectReading(root=str(coco_root)))


def test_a_file_name_that_leads_out_of_the_folder_is_not_followed(coco_root):
    save(coco_root.parent / "outside.jpg")
    content = {**CONTENT, "images": [*CONTENT["images"], {"id": 20, "file_name": "../../outside.jpg"}]}
    (coco_root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    found = open_collection("coco", ObjectReading(root=str(coco_root)))
    assert len(found.parts["train"]) == 2 and "outside the folder" in "\n".join(found.problems.notes())


def test_a_coco_folder_without_a_train_part_says_what_it_has(coco_root):
    (coco_root / "annotations" / "instances_train2017.json").rename(coco_root / "annotations" / "mine.json")
    with pytest.raises(kzoo.RequestError, match="no annotations/instances_train.*captions_train2017, mine"):
        check("coco", ObjectReading(root=str(coco_root)))
    with pytest.raises(kzoo.RequestError, match="lacks the key"):
        open_collection("coco", ObjectReading(root=str(coco_root), parts={"train": "captions_train2017"}))


def test_what_an_annotation_lacks_is_said():
    broken = {**CONTENT, "annotations": [{"image_id": 7, "category_id": 1}, {"image_id": 7, "bbox": [1, 2, 3]}]}
    assert coco.parse(broken)[2] == [
        "annotation 0: lacks or does not know 'bbox'",
        "annotation 1: not enough values to unpack (expected 4, got 3)",
    ]


# --- YOLO ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def yolo_root(tmp_path):
    for part, names in (("train", "abc"), ("val", "d")):
        for name in names:
            save(tmp_path / "images" / part / f"{name}.png")
        (tmp_path / "labels" / part).mkdir(parents=True)
    (tmp_path / "labels" / "train" / "a.txt").write_text("1 0.5 0.5 0.25 0.5\n0 0.1 0.2 0.3 0.2 0.3 0.6 0.15 0.7\n")
    # b has no label file
    (tmp_path / "labels" / "train" / "c.txt").write_text("0 40 30 20 20\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: [images/val]\nnames: {0: cat, 1: dog}\n")
    return tmp_path


def test_a_yolo_folder(yolo_root):
    found = open_collection("yolo", ObjectReading(root=str(yolo_root)))
    assert found.classes == ("cat", "dog") and set(found.parts) == {"train", "validation"}
    first, second = found.parts["train"].truths
    np.testing.assert_allclose(first.boxes, [[30, 15, 50, 45], [8, 12, 24, 42]], rtol=1e-5)
    assert first.labels.tolist() == [1, 0] and len(second) == 0
    assert found.parts["train"].picture(1).shape == (60, 80, 3)
    assert "c.txt (line 1 has coordinates beyond 0 to 1" in "\n".join(found.problems.notes())


def test_a_yolo_folder_without_description_has_its_class_list(yolo_root):
    (yolo_root / "data.yaml").unlink()
    with pytest.raises(kzoo.RequestError, match="neither data.yaml nor classes.txt"):
        check("yolo", ObjectReading(root=str(yolo_root)))
    (yolo_root / "labels" / "classes.txt").write_text("cat\ndog\n")
    assert open_collection("yolo", ObjectReading(root=str(yolo_root))).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: images/nowhere\nnames: [cat]", "there is no .*images/nowhere"),
        ("train: images/train", "has names, a list"),
        ("names: [cat, dog]\nval: images/val", "no train part in YOLO's layout; its parts are val"),
        ("names: {0: cat, dog: 1}\ntrain: images/train", "has names, a list"),
    ],
)
def test_yolo_descriptions_that_do_not_fit(yolo_root, content, message):
    (yolo_root / "data.yaml").write_text(content)
    with pytest.raises(kzoo.RequestError, match=message):
        check("yolo", ObjectReading(root=str(yolo_root)))


def test_a_list_of_pictures_is_a_part(yolo_root):
    (yolo_root / "images" / "train" / "b.png").rename(yolo_root / "images" / "train" / "two words.png")
    (yolo_root / "some.txt").write_text("images/train/a.png\nimages/train/z.png\n./images/train/two words.png\n")
    (yolo_root / "data.yaml").write_text("train: some.txt\nnames: [cat, dog]\n")
    found = open_collection("yolo", ObjectReading(root=str(yolo_root)))
    assert len(found.parts["train"]) == 2 and "z.png" in "\n".join(found.problems.notes())


@pytest.mark.parametrize("text", ["0 0.5 0.5 0.2", "2 0.5 0.5 0.2 0.2", "0 a 0.5 0.2 0.2", "0 0.1 0.1 0.2 0.2 0.3"])
def test_yolo_lines_that_are_none(text):
    with pytest.raises(ValueError, match="line 1 has|line 1 holds"):
        yolo.parse(text, (10, 10), ("cat", "dog"))


# --- TFDS ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tfds_root(tmp_path_factory):
    """TFDS's ``kitti`` and a set with VOC's features, as TFDS would write them, of one picture each."""
    tfds = pytest.importorskip("tensorflow_datasets")
    root = tmp_path_factory.mktemp("tfds")
    picture = np.random.default_rng(0).integers(0, 256, (50, 100, 3), dtype=np.uint8)
    box = tfds.features.BBox(0.5, 0.1, 0.9, 0.3)

    def make(called, version, file, objects, row):
        class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            name = called
            VERSION = tfds.core.Version(version)

            def _info(self):
                features = {"image": tfds.features.Image(), file: tfds.features.Text()}
                features["objects"] = tfds.features.Sequence(objects)
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, manager):
                return {"train": self._generate_examples(), "test": self._generate_examples(empty=True)}

            def _generate_examples(self, empty=False):
                yield 0, {"image": picture, file: "000001.png", "objects": [] if empty else [row]}

        Builder(data_dir=root).download_and_prepare()

    names = tfds.features.ClassLabel(names=["Car", "Van", "Pedestrian"])
    kitti = {"type": names, "bbox": tfds.features.BBoxFeature()}
    kitti |= {"truncated": np.float32, "occluded": tfds.features.ClassLabel(num_classes=4)}
    row = {"type": "Van", "bbox": box, "truncated": 0.25, "occluded": 2}
    make("kitti", "3.3.0", "image/file_name", kitti, row)
    like_voc = {"label": names, "bbox": tfds.features.BBoxFeature(), "is_difficult": np.bool_}
    make("things", "1.0.0", "image/filename", like_voc, {"label": "Car", "bbox": box, "is_difficult": True})
    return root


def test_kitti_of_tfds_is_turned_the_right_way_up(tfds_root):
    reading = ObjectReading(data_dir=str(tfds_root), class_map={"Van": "Car"}, classes=("Car",))
    found = open_collection("tfds:kitti", reading)
    (truth,) = found.parts["train"].truths
    # stored as rows 0.5 to 0.9 counted from below
    np.testing.assert_allclose(truth.boxes, [[10, 5, 30, 25]], rtol=1e-5)
    assert truth.names == ("Van",) and truth.labels.tolist() == [0]
    assert (truth.truncation[0], truth.occlusion[0]) == (0.25, 2)
    assert found.parts["train"].picture(0).shape == (50, 100, 3) and found.parts["train"].name(0) == "000001.png"
    assert "test" not in found.parts, "a test part without any labels is none"


def test_others_of_tfds_are_the_right_way_up_and_what_is_difficult_is_ignored(tfds_root):
    found = open_collection("tfds:things", ObjectReading(data_dir=str(tfds_root)))
    (truth,) = found.parts["train"].truths
    np.testing.assert_allclose(truth.boxes, [[10, 25, 30, 45]], rtol=1e-5)
    assert truth.ignored.tolist() == [True] and truth.labels.tolist() != [ANY]


def test_pictures_that_do_not_fit_in_memory_are_read_from_a_file(tfds_root, tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path))
    monkeypatch.setattr("kzoo.data.detection.sources.tfds.MEMORY_SHARE", 0.0)
    reading = ObjectReading(data_dir=str(tfds_root))
    first, again = (open_collection("tfds:things", reading).parts["train"].picture(0) for _ in range(2))
    assert np.array_equal(first, again) and len(list((tmp_path / "encoded").iterdir())) == 2, "a file for each part"


def test_a_cache_folder_that_cannot_be_written_is_named(tfds_root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr("kzoo.data.detection.sources.tfds.MEMORY_SHARE", 0.0)
    with pytest.raises(kzoo.RequestError, match=f"the cache folder {tmp_path}/file/encoded cannot be"):
        open_collection("tfds:things", ObjectReading(data_dir=str(tfds_root)))


def test_tfds_sets_that_are_not_here_or_have_no_objects(tfds_root, tfds_dir):
    with pytest.raises(kzoo.RequestError, match="tfds:coco is not prepared at"):
        check("tfds:coco", ObjectReading(data_dir=str(tfds_root)))
    with pytest.raises(kzoo.RequestError, match="detection needs image, and objects with bbox and label"):
        open_collection("tfds:mnist", ObjectReading(data_dir=str(tfds_dir)))


def test_the_channels_deviation_of_large_even_pictures(yolo_root):
    """A sum of squares in single precision would be ten times the truth."""
    even = np.full((400, 1200, 3), 200, np.uint8)
    even[::2] = 202
    for path in yolo_root.rglob("*.png"):
        Image.fromarray(even).save(path)
    data = {"data.source": "yolo", "data.root": str(yolo_root), "data.normalize": "standard"}
    data |= {"data.classes": ["cat", "dog"], "data.class_map": {}}
    task = open_task(kzoo.load_recipe("vgg16_detector/scenes", data))
    task.open()
    assert task.recipe.data.std == pytest.approx([1, 1, 1], abs=1e-3)
