"""A real TFDS download, from a server of this machine."""

import functools
import http.server
import threading
import types

import numpy as np
import pytest

from kzoo.data.reading import Reading
from kzoo.data.sources import open_collection, tfds
from kzoo.errors import WorkError


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A folder that is served over HTTP, with 30 images in it."""
    folder = tmp_path_factory.mktemp("served")
    rng = np.random.default_rng(0)
    np.savez(folder / "images.npz", x=rng.integers(0, 256, (30, 6, 5, 3), dtype=np.uint8), y=np.arange(30) % 3)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


@pytest.fixture(scope="module")
def name(server):
    """A set that TFDS knows by name and fetches from that server."""
    import tensorflow_datasets as library

    url = server[1]

    class ServedImages(library.core.GeneratorBasedBuilder):
        VERSION = library.core.Version("1.0.0")
        file = "images.npz"

        def _info(self):
            features = {
                "image": library.features.Image(shape=(6, 5, 3), encoding_format="png"),
                "label": library.features.ClassLabel(names=["a", "b", "c"]),
            }
            return self.dataset_info_from_configs(features=library.features.FeaturesDict(features))

        def _split_generators(self, manager):
            path = manager.download(f"{url}/{self.file}")
            return {"train": self._generate_examples(path)}

        def _generate_examples(self, path):
            with np.load(path) as stored:
                for number, (image, label) in enumerate(zip(stored["x"], stored["y"], strict=True)):
                    yield number, {"image": image, "label": int(label)}

    class MissingImages(ServedImages):
        file = "nowhere.npz"

    return ServedImages.name


@pytest.fixture
def reachable(monkeypatch):
    """The look for a network asks for Google's storage, which a test must not need."""
    monkeypatch.setattr(tfds, "_reachable", lambda: True)


def test_a_set_is_fetched_once_and_then_found_on_disk(server, name, reachable, tmp_path, capsys):
    reading = Reading(data_dir=str(tmp_path), download=True)
    collection = open_collection(f"tfds:{name}", reading)
    with np.load(server[0] / "images.npz") as stored:
        order = {p.tobytes(): int(y) for p, y in zip(stored["x"], stored["y"], strict=True)}
    images = collection.parts["train"]
    assert collection.classes == ("a", "b", "c") and len(images) == 30
    assert {p.tobytes(): int(y) for p, y in zip(images.pixels, images.labels, strict=True)} == order
    assert f"fetching tfds:{name}" in capsys.readouterr().err
    open_collection(f"tfds:{name}", Reading(data_dir=str(tmp_path)))
    assert "fetching" not in capsys.readouterr().err


def test_a_download_that_fails_without_a_word_is_told_by_its_kind(tmp_path):
    def time_out():
        raise TimeoutError

    info = types.SimpleNamespace(download_size=None, homepage="")
    with pytest.raises(WorkError, match="fetching tfds:slow failed: TimeoutError$"):
        tfds._download(types.SimpleNamespace(info=info, download_and_prepare=time_out), "slow", tmp_path)


def test_a_failed_download_is_one_sentence_and_leaves_nothing_behind(name, reachable, tmp_path):
    with pytest.raises(WorkError, match=r"fetching tfds:missing_images failed: .*404"):
        open_collection("tfds:missing_images", Reading(data_dir=str(tmp_path), download=True))
    assert not tfds._prepared("missing_images", tmp_path)
