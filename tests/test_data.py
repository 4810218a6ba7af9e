import dataclasses
import os
import shutil

import numpy as np
import pytest
from PIL import Image

import kzoo
from kzoo.data.images import Images, channel_statistics, hold_out
from kzoo.data.reading import Reading
from kzoo.data.sources import open_collection


def test_digits_have_a_fixed_stratified_test_part():
    first, again = (open_collection("builtin:digits", Reading()) for _ in range(2))
    train, test = first.parts["train"], first.parts["test"]
    assert (len(train), len(test), train.shape) == (1437, 360, (8, 8, 1))
    assert np.array_equal(test.pixels, again.parts["test"].pixels)
    assert np.bincount(test.labels).min() >= 34
    assert {p.tobytes() for p in train.pixels[:200]}.isdisjoint({p.tobytes() for p in test.pixels[:50]})


def test_digits_come_in_the_size_and_the_channels_that_are_asked_for():
    parts = open_collection("builtin:digits", Reading(size=(16, 12), channels=3)).parts
    assert {p.shape for p in parts.values()} == {(16, 12, 3)}


def test_hold_out_is_stratified_fixed_by_its_seed_and_loses_nothing():
    labels = np.repeat([0, 1, 2], [100, 10, 1])
    images = Images(np.arange(111, dtype=np.uint8).reshape(-1, 1, 1, 1), labels)
    stays, held = hold_out(images, 0.2, seed=3)
    assert np.bincount(held.labels, minlength=3).tolist() == [20, 2, 0]
    assert sorted([*stays.pixels.ravel(), *held.pixels.ravel()]) == list(range(111))
    assert np.array_equal(hold_out(images, 0.2, seed=3)[1].pixels, held.pixels)
    assert not np.array_equal(hold_out(images, 0.2, seed=4)[1].pixels, held.pixels)


def test_channel_statistics_are_those_of_numpy():
    pixels = np.random.default_rng(0).integers(0, 256, (50, 4, 5, 3), dtype=np.uint8)
    mean, deviation = channel_statistics(Images(pixels, np.zeros(50)))
    np.testing.assert_allclose(mean, pixels.mean((0, 1, 2)), atol=1e-3)
    np.testing.assert_allclose(deviation, pixels.std((0, 1, 2)), atol=1e-3)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_image_folder_is_read_the_same_from_memory_and_from_disk(image_folder, cache):
    collection = open_collection(f"folder:{image_folder}", Reading(cache=cache))
    images = collection.parts["train"]
    assert collection.classes == ("dark", "light") and images.shape == (12, 10, 3) and len(images) == 24
    pixels, labels = images.batch(np.array([23, 0]))
    assert labels.tolist() == [1, 0] and pixels[0].min() >= 128 and pixels[1].max() < 128


def test_image_folder_with_parts(image_folder, tmp_path):
    for part in ("train", "val", "test"):
        for name in ("dark", "light"):
            target = tmp_path / "parts" / part / name
            target.mkdir(parents=True)
            os.link(image_folder / name / "00.png", target / "a.png")
    collection = open_collection(f"folder:{tmp_path / 'parts'}", Reading())
    assert {name: len(part) for name, part in collection.parts.items()} == {"train": 2, "validation": 2, "test": 2}


def test_classes_must_have_images_and_parts_must_agree(image_folder, tmp_path):
    (image_folder / "empty").mkdir()
    with pytest.raises(kzoo.RequestError, match=f"{image_folder}/empty is a class without images"):
        open_collection(f"folder:{image_folder}", Reading())
    (image_folder / "empty").rmdir()
    parts = tmp_path / "parts"
    for part in ("train", "test"):
        shutil.copytree(image_folder, parts / part)
    (parts / "test" / "light").rename(parts / "test" / "lite")
    with pytest.raises(kzoo.RequestError, match="test/lite is a class that .*/train does not have.*'light'"):
        open_collection(f"folder:{parts}", Reading())


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_corrupt_image_is_skipped_with_its_name(image_folder, cache):
    bad = image_folder / "dark" / "05.png"
    bad.write_bytes(bad.read_bytes()[:60])
    collection = open_collection(f"folder:{image_folder}", Reading(cache=cache))
    images = collection.parts["train"]
    pixels, labels = images.batch(np.arange(len(images)))
    assert len(pixels) == len(labels) == 23
    assert list(collection.unreadable) == [str(bad)]


def test_a_corrupt_image_stops_the_work_where_the_recipe_says_so(image_folder):
    bad = image_folder / "light" / "03.png"
    bad.write_bytes(b"no image")
    with pytest.raises(kzoo.RequestError, match=r"light/03\.png cannot be read"):
        open_collection(f"folder:{image_folder}", Reading(on_corrupt="stop"))


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_sizes_must_agree_or_be_asked_for(image_folder, cache):
    from PIL import Image

    def read():
        for images in open_collection(f"folder:{image_folder}", Reading(cache=cache)).parts.values():
            for place in range(len(images)):
                images.batch(np.array([place]))

    Image.new("L", (10, 12)).save(image_folder / "dark" / "a grey one.png")
    with pytest.raises(kzoo.RequestError, match=r"12x10 with 1 channels.*data\.channels"):
        read()
    (image_folder / "dark" / "a grey one.png").unlink()
    Image.new("RGB", (40, 20), "red").save(image_folder / "dark" / "big.png")
    with pytest.raises(kzoo.RequestError, match=r"differ in size.*20x40.*data\.image_size"):
        read()
    for fit in ("stretch", "crop", "pad"):
        collection = open_collection(f"folder:{image_folder}", Reading(size=(8, 8), channels=1, fit=fit))
        assert collection.parts["train"].pixels.shape == (25, 8, 8, 1)


@pytest.mark.parametrize("suffix", ["png", "bmp", "gif", "jpg"])
def test_every_format_is_read_in_grey_and_in_colour(image_folder, suffix):
    from PIL import Image

    from kzoo.data import decode

    path = image_folder / f"x.{suffix}"
    for mode in ("L", "RGB"):
        Image.new(mode, (6, 4), 200 if mode == "L" else (200, 200, 200)).save(path)
        for channels in (1, 3):
            pixels = decode.image(path.read_bytes(), None, channels, "stretch")
            assert pixels.shape == (4, 6, channels) and abs(pixels.astype(int) - 200).max() <= 2


def test_fit_keeps_the_aspect_ratio_or_not():
    from kzoo.data import decode

    wide = np.zeros((10, 20, 3), np.uint8)
    wide[:, 5:15] = 200
    assert decode.resize(wide, (10, 10), "crop").numpy().min() == 200
    padded = decode.resize(wide, (20, 20), "pad").numpy()
    assert padded[:4].max() == 0 and padded[10, 10].max() == 200
    assert decode.resize(wide, (10, 10), "stretch").numpy()[5, 0].max() == 0


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros(3)}, "x_train and y_train are needed"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8)}, "no y_train"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8), "y_train": np.array([0.5, 1.7, 0.0])}, "must be class numbers"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8), "y_train": np.array(["a", "b", "c"])}, "must be class numbers"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8), "y_train": np.eye(3, dtype=int)}, "must be class numbers"),
        ({"x_train": np.zeros((0, 4, 4), np.uint8), "y_train": np.zeros(0, int)}, "must be class numbers"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8), "y_train": np.zeros(2, int)}, "differ in length"),
        ({"x_train": np.zeros((3, 4, 4, 2), np.uint8), "y_train": np.zeros(3, int)}, "1 or 3"),
        ({"x_train": np.full((3, 4, 4), 7.0), "y_train": np.zeros(3, int)}, "outside 0 to 1"),
        ({"x_train": np.zeros((3, 4, 4), np.int32), "y_train": np.zeros(3, int)}, "uint8 or floats"),
        ({"x_train": np.zeros((3, 4, 4), np.uint8), "y_train": np.array([-1, 0, 1])}, "labels must be from 0"),
    ],
)
def test_an_npz_file_that_does_not_fit_is_one_sentence(tmp_path, arrays, message):
    np.savez(tmp_path / "data.npz", **arrays)
    with pytest.raises(kzoo.RequestError, match=message):
        open_collection(f"npz:{tmp_path / 'data.npz'}", Reading())


def test_grey_is_of_one_luma_whatever_the_images_come_from(tmp_path):
    colours = np.array([[5, 5, 255], [5, 75, 70], [5, 95, 160], [5, 115, 250], [5, 185, 65]], np.uint8)
    images = np.broadcast_to(colours[:, None, None], (5, 4, 6, 3))
    np.savez(tmp_path / "d.npz", x_train=images, y_train=np.arange(5))
    for number, image in enumerate(images):
        (tmp_path / "d" / str(number)).mkdir(parents=True)
        Image.fromarray(image).save(tmp_path / "d" / str(number) / "x.png")
    npz, folder = (open_collection(s, Reading(channels=1)) for s in (f"npz:{tmp_path}/d.npz", f"folder:{tmp_path}/d"))
    np.testing.assert_array_equal(npz.parts["train"].pixels, folder.parts["train"].pixels)


def test_an_npz_file_is_read(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    np.savez(
        tmp_path / "d.npz",
        x_train=pixels,
        y_train=np.arange(6)[:, None] % 2,
        x_test=pixels / 255,
        y_test=np.ones(6, int),
    )
    collection = open_collection(f"npz:{tmp_path / 'd.npz'}", Reading(channels=3))
    assert collection.parts["train"].shape == (5, 4, 3)
    assert np.array_equal(collection.parts["test"].pixels[..., 0], pixels), "floats from 0 to 1 are the same pixels"
    for content in (b"PK\x03\x04 nothing", b"", b"\x93NUMPY"):
        (tmp_path / "broken.npz").write_bytes(content)
        with pytest.raises(kzoo.RequestError, match="cannot be read"):
            open_collection(f"npz:{tmp_path / 'broken.npz'}", Reading())


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("digits", r"none of builtin:\.\.\., folder"),
        ("bultin:digits", "did you mean 'builtin'"),
        ("builtin:digit", "did you mean 'digits'"),
        ("folder:/no/such", "no such folder"),
        ("npz:/no/such.npz", "no such file"),
    ],
)
def test_an_unknown_source_is_one_sentence(source, message):
    with pytest.raises(kzoo.RequestError, match=message):
        open_collection(source, Reading())


def test_a_missing_tfds_set_says_which_path_would_do_and_does_not_try_the_network(tmp_path):
    with pytest.raises(kzoo.RequestError, match=f"not prepared at {tmp_path}/mnist.*data_dir"):
        open_collection("tfds:mnist", Reading(data_dir=str(tmp_path)))


def test_a_download_that_is_allowed_fails_with_the_path_where_there_is_no_network(tmp_path, monkeypatch):
    import socket

    def refuse(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(kzoo.RequestError, match=f"no network; put the prepared data at {tmp_path}/mnist"):
        open_collection("tfds:mnist", Reading(data_dir=str(tmp_path), download=True))


@pytest.fixture
def secret(tmp_path):
    """A function that writes a set as TFDS would, of one grey picture for each label; -1 stands for none."""
    tfds = pytest.importorskip("tensorflow_datasets")

    def make(**labels):
        class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            name = "secret"
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                names = tfds.features.ClassLabel(names=["cat", "dog"])
                features = {"image": tfds.features.Image(shape=(4, 5, 1)), "label": names}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

            def _split_generators(self, manager):
                return {split: self._generate_examples(numbers) for split, numbers in labels.items()}

            def _generate_examples(self, numbers):
                for key, number in enumerate(numbers):
                    yield key, {"image": np.full((4, 5, 1), 100 + number, np.uint8), "label": number}

        Builder(data_dir=tmp_path).download_and_prepare()
        return Reading(data_dir=str(tmp_path))

    return make


def test_a_tfds_part_whose_labels_are_secret_is_none(secret):
    parts = open_collection("tfds:secret", secret(train=[0, 1, 1], validation=[1, 0], test=[-1, -1])).parts
    assert {name: sorted(part.labels) for name, part in parts.items()} == {"train": [0, 1, 1], "validation": [0, 1]}


@pytest.mark.parametrize("cache", ["memory", "disk"])
@pytest.mark.parametrize(
    ("labels", "split"), [({"train": [0, 1], "test": [1, -1]}, "test"), ({"train": [-1]}, "train")]
)
def test_tfds_images_without_a_label_among_others_are_refused(secret, tmp_path, monkeypatch, labels, split, cache):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    reading = dataclasses.replace(secret(**labels), cache=cache)
    with pytest.raises(
        kzoo.RequestError, match=f"tfds:secret: 1 of {len(labels[split])} images of {split} have no label"
    ):
        open_collection("tfds:secret", reading)
    kept = 0 if cache == "memory" or split == "train" else 1
    assert len([p for p in (tmp_path / "cache").rglob("*") if p.is_file()]) == kept


def test_real_mnist_of_tfds(tfds_dir, tmp_path, monkeypatch):
    collection = open_collection("tfds:mnist", Reading(data_dir=str(tfds_dir)))
    assert {k: len(v) for k, v in collection.parts.items()} == {"train": 60000, "test": 10000}
    assert collection.classes == tuple("0123456789") and collection.parts["train"].shape == (28, 28, 1)
    assert np.bincount(collection.parts["test"].labels).tolist() == [
        980,
        1135,
        1032,
        1010,
        982,
        892,
        958,
        1028,
        974,
        1009,
    ]
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path))
    on_disk = open_collection("tfds:mnist", Reading(data_dir=str(tfds_dir), cache="disk"))
    assert isinstance(on_disk.parts["test"].pixels, np.memmap)
    assert np.array_equal(on_disk.parts["test"].pixels, collection.parts["test"].pixels)
    again = open_collection("tfds:mnist", Reading(data_dir=str(tfds_dir), cache="disk"))
    assert np.array_equal(again.parts["test"].labels, collection.parts["test"].labels)
