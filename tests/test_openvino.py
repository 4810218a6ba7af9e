"""OpenVINO's folders: verified, answered with, and looked at before they are opened."""

import json
import shutil

import numpy as np
import pytest

import kzoo
from kzoo import artefacts
from kzoo.serving.doors import open_doors

for package in ("onnx", "tf2onnx", "openvino"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def exported(small_run, tmp_path_factory):
    return kzoo.export(small_run, out=tmp_path_factory.mktemp("openvino") / "export", formats="openvino")


@pytest.fixture(scope="module")
def images(small_run):
    with np.load(small_run.path / "samples.npz") as samples:
        return list(samples["images"])


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported.folder / "openvino", tmp_path / "openvino")


def test_it_agrees_in_its_own_runtime(exported):
    figures = exported.formats["openvino"]
    assert figures["ok"] and set(figures["runtime"]) == {"python", "numpy", "openvino"} and not figures["refused"]
    assert set(figures["signatures"]) == {"network", "serve_pixels"}
    for values in figures["signatures"].values():
        assert values["max_difference"] <= values["tolerance"] < 1e-3 and values["batch_sizes"] == [1, 3, 16]
    names = {f"openvino/{door}.{kind}" for door in ("network", "serve_pixels") for kind in ("xml", "bin")}
    assert set(figures["files"]) == names | {"openvino/model.json"}


def test_predict_and_serve_answer_with_it(exported, small_run, images):
    wanted = kzoo.predict(small_run, images)
    found = kzoo.predict(exported.folder / "openvino", images)
    assert [f["label"] for f in found] == [w["label"] for w in wanted]
    np.testing.assert_allclose([f["probability"] for f in found], [w["probability"] for w in wanted], atol=1e-5)
    answered = open_doors(exported.folder / "openvino").doors["serve_images"].call({"images": np.stack(images)})
    assert [label.decode() for label in answered["label"]] == [w["label"] for w in wanted]
    assert artefacts.card(exported.folder / "openvino") == {**small_run.card, "run": exported.run["sha256"]}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text.replace('version="opset', 'version="mine', 1), "has the operation .*, which is not loaded"),
        (lambda text: text.replace("<dim>8</dim>", "<dim>99999999999</dim>", 1), "declares a tensor of"),
        (lambda text: text[: len(text) // 2], "it is damaged"),
    ],
)
def test_hostile_graphs_are_refused(copy, images, change, sentence):
    path = copy / "serve_pixels.xml"
    path.write_text(change(path.read_text()))
    with pytest.raises(kzoo.RequestError, match=sentence):
        kzoo.predict(copy, images)


def test_other_files_and_cut_weights_are_refused(copy, images):
    (copy / "network.bin").write_bytes((copy / "network.bin").read_bytes()[:100])
    with pytest.raises(kzoo.RequestError, match="cannot be opened by openvino"):
        kzoo.predict(copy, images)
    (copy / "extension.so").write_bytes(b"")
    with pytest.raises(kzoo.RequestError, match=r"extension\.so belongs to no folder"):
        kzoo.predict(copy, images)
    (copy / "extension.so").unlink()
    (copy / "model.json").write_text(json.dumps({}))
    with pytest.raises(kzoo.RequestError, match=r"has no model\.json"):
        kzoo.predict(copy, images)
