"""Serving what `kzoo.export` wrote, and publishing it where a model server looks."""

import gc
import importlib
import json
import shutil
import subprocess

import numpy as np
import pytest

import kzoo
from kzoo import runtimes
from kzoo.serving import server
from kzoo.serving.doors import open_doors
from kzoo.serving.refused import Refused
from tests.serving.test_serve import Server

for package in ("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert"):
    pytest.importorskip(package)


@pytest.fixture(scope="module")
def report(small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("artefacts") / "export"
    return kzoo.export(small_run, out=out, formats=["onnx", "litert", "weights_h5", "saved_model"])


@pytest.fixture(scope="module")
def exported(report):
    return report.folder


@pytest.fixture(scope="module")
def images(small_run):
    with np.load(small_run.path / "samples.npz") as samples:
        return samples["images"]


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


# --- files --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "model.weights.h5"])
def test_a_file_answers_as_predict_does(exported, images, name):
    import tensorflow as tf

    served = open_doors(exported / name)
    assert served.name == "cnn_classifier" and set(served.doors) == {"serving_default", "serve_images", "serve_bytes"}
    assert all(door.batched for door in served.doors.values()), "requests that come together are one call"
    wanted = kzoo.predict(exported / name, list(images))
    encoded = np.array([tf.io.encode_png(i).numpy() for i in images], object)
    for door, inputs in (("serve_images", {"images": images}), ("serve_bytes", {"encoded": encoded})):
        found = served.doors[door].call(inputs)
        assert [label.decode() for label in found["label"]] == [w["label"] for w in wanted]
        np.testing.assert_allclose(found["probability"], [w["probability"] for w in wanted], rtol=1e-5)


def test_a_file_is_served_over_http(exported, images):
    server = Server(exported / "model.onnx", "--name", "digits")
    try:
        status, answer = server.predict(signature_name="serve_images", instances=images[:3].tolist())
        assert status == 200
        wanted = kzoo.predict(exported / "model.onnx", list(images[:3]))
        assert [row["label"] for row in answer["predictions"]] == [w["label"] for w in wanted]
        status, answer = server.predict(instances=[[1, 2]])
        assert status == 400 and "shape" in answer["error"]
    finally:
        assert server.end()[0] == 0


def test_a_file_for_one_row_is_called_row_by_row(exported, images, tmp_path):
    """As compilers for small devices leave them."""
    import onnx

    model = onnx.load(exported / "model.onnx")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save_model(model, tmp_path / "model.onnx")
    with pytest.raises(Exception, match="invalid dimensions"):
        runtimes.open_onnx(tmp_path / "model.onnx")["network"]({"image": np.zeros((3, 8, 8, 1), np.float32)})
    found = open_doors(tmp_path / "model.onnx").doors["serve_images"].call({"images": images})
    wanted = open_doors(exported / "model.onnx").doors["serve_images"].call({"images": images})
    np.testing.assert_allclose(found["probabilities"], wanted["probabilities"], atol=1e-6)


@pytest.mark.parametrize("name", ["model.onnx", "model.tflite", "saved_model"])
def test_a_damaged_picture_is_its_senders_fault(exported, images, name):
    """Whatever the network's runtime: TensorFlow decodes for all of them."""
    import tensorflow as tf

    door = open_doors(exported / name).doors["serve_bytes"]
    whole = tf.io.encode_png(images[0]).numpy()
    assert len(door.call({"encoded": np.array([whole], object)})["label"]) == 1
    for damaged in (whole[:-30], b"no picture"):
        with pytest.raises(Refused, match=r"^the input 'encoded' cannot be read: [^\n{}]{10,}$") as caught:
            door.call({"encoded": np.array([whole, damaged], object)})
        assert caught.value.status == 400


@pytest.fixture
def for_rows(exported, tmp_path):
    """Makes an ONNX file that takes any number of rows by its signature, and fails for all but one number."""
    import onnx

    def make(count):
        model = onnx.load(exported / "model.onnx")
        graph, given = model.graph, model.graph.input[0].name
        for node in graph.node:
            node.input[:] = ["fixed" if name == given else name for name in node.input]
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([count, 8, 8, 1]), "shape_of_some"))
        graph.node.insert(0, onnx.helper.make_node("Reshape", [given, "shape_of_some"], ["fixed"], name="to_some"))
        onnx.save_model(model, tmp_path / "model.onnx")
        return tmp_path / "model.onnx"

    return make


def test_what_a_runtime_raises_for_an_input_that_fits_is_no_clients_fault(for_rows):
    server = Server(for_rows(1), "--name", "m")
    row = np.zeros((8, 8, 1)).tolist()
    try:
        for count, wanted in ((1, 200), (2, 500), (1, 200)):
            status, answer = server.predict(instances=[row] * count)
            assert status == wanted, answer
            if status == 500:
                assert answer["error"].endswith("; the server's log says why") and "\n" not in answer["error"]
    finally:
        code, err = server.end()
    assert code == 0
    assert err.count("Exception in ASGI application") == 1 and "Traceback" in err and "to_some" in err


def test_what_fails_for_its_own_example_is_not_served(for_rows, command):
    done = command("serve", for_rows(5), "--port", 0)
    assert done.code == 1 and done.out == "" and "Traceback" not in done.err, done.err
    assert "cnn_classifier cannot be served: its door serving_default fails for an example: " in done.err
    assert "to_some" in done.err


def test_what_is_no_artefact_is_named(exported, tmp_path):
    only = tmp_path / "only"
    only.mkdir()
    for name in ("model.onnx", "model-serve_pixels.onnx", "model.tflite", "model.json"):
        shutil.copy(exported / name, only)
    with pytest.raises(kzoo.RequestError, match=r"no SavedModel; name one of its files: model\.onnx, model\.tflite$"):
        open_doors(only)
    bare = tmp_path / "model.weights.h5"
    shutil.copy(exported / "model.weights.h5", bare)
    with pytest.raises(kzoo.RequestError, match=r"has no model\.json in it or beside it"):
        open_doors(bare)
    with pytest.raises(kzoo.RequestError, match="neither a run nor an artefact"):
        open_doors(exported / "labels.txt")


# --- a model server's folder --------------------------------------------------------------------------------------


def test_versions_appear_one_after_the_other(exported, models):
    import tensorflow as tf

    assert kzoo.publish(exported, models) == models / "cnn_classifier" / "1"
    assert kzoo.publish(exported, models) == models / "cnn_classifier" / "2"
    assert kzoo.publish(exported, models, version=20) == models / "cnn_classifier" / "20"
    assert kzoo.publish(exported, models).name == "21", "the highest counts, as a number"
    assert sorted(p.name for p in (models / "cnn_classifier").iterdir()) == ["1", "2", "20", "21"]
    loaded = tf.saved_model.load(str(models / "cnn_classifier" / "2"), tags=["serve"])
    door = loaded.signatures["serving_default"]
    assert door(image=tf.zeros([2, 8, 8, 1]))["logits"].shape == (2, 10)


def test_signatures_are_those_that_model_servers_call(exported, models):
    from tensorflow.core.protobuf import saved_model_pb2

    place, found = kzoo.publish(exported, models, name="digits"), saved_model_pb2.SavedModel()
    assert place == models / "digits" / "1"
    found.ParseFromString((place / "saved_model.pb").read_bytes())
    [graph] = found.meta_graphs
    assert list(graph.meta_info_def.tags) == ["serve"]
    doors = {name: s.method_name for name, s in graph.signature_def.items() if not name.startswith("__")}
    assert doors == dict.fromkeys(("serving_default", "serve_images", "serve_bytes"), "tensorflow/serving/predict")


def test_a_version_is_never_replaced(exported, models):
    place = kzoo.publish(exported, models, version=3)
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}
    with pytest.raises(kzoo.RequestError, match=r"cnn_classifier/3 is there already, and a version is never replaced"):
        kzoo.publish(exported, models, version=3)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "a/b"}, "has letters, digits"),
        ({"name": ".."}, "has letters, digits"),
        ({"version": 0}, "a whole number from 1, not 0"),
    ],
)
def test_places_that_no_server_takes(exported, models, arguments, sentence):
    with pytest.raises(kzoo.RequestError, match=sentence):
        kzoo.publish(exported, models, **arguments)
    assert not models.exists()


def test_what_was_changed_since_it_was_verified_is_not_published(exported, models, tmp_path):
    copy = shutil.copytree(exported, tmp_path / "copy")
    (copy / "saved_model" / "saved_model.pb").write_bytes(b"")
    with pytest.raises(kzoo.WorkError, match="was changed since the export was verified"):
        kzoo.publish(copy, models)
    assert not models.exists()


def test_the_highest_version_is_served(exported, models):
    for version in (2, 10):
        kzoo.publish(exported, models, name="digits", version=version)
    (models / "digits" / ".11.new").mkdir()  # of a publishing that was killed
    assert open_doors(models / "digits").version == "10"
    assert open_doors(models / "digits" / "2").name == "digits"
    server = Server(models / "digits")
    try:
        assert server.name == "digits"
        for path in ("", "/versions/10"):
            status, found = server.ask("GET", f"/v1/models/digits{path}")
            assert status == 200 and found["model_version_status"][0]["version"] == "10"
        body = json.dumps({"instances": np.zeros((1, 8, 8, 1)).tolist()})
        status, found = server.ask("POST", "/v1/models/digits/versions/10:predict", body)
        assert status == 200 and len(found["predictions"][0]) == 10
        status, found = server.ask("POST", "/v1/models/digits/versions/2:predict", body)
        assert status == 404 and "no version '2' of digits; this server has 10" in found["error"]
    finally:
        assert server.end()[0] == 0


def test_publishing_on_the_command_line(small_run, models, command, tmp_path):
    options = ["--formats", "saved_model", "--out", tmp_path / "export", "--serving-dir", models, "--name", "digits"]
    done = command("export", small_run.path, *options, "--version", 7)
    assert done.code == 0 and done.out.splitlines()[-1] == f"published {models / 'digits' / '7'}", done.err
    assert (models / "digits" / "7" / "saved_model.pb").is_file()
    # Seen before the export, which would take long.
    done = command("export", small_run.path, *options, "--version", 7)
    assert done.code == 2 and "is there already" in done.err and done.out == ""
    done = command("export", small_run.path, "--formats", "keras", "--serving-dir", models)
    assert done.code == 2 and "what is published is the SavedModel" in done.err
    done = command("export", small_run.path, "--version", 2)
    assert done.code == 2 and "--serving-dir" in done.err


def test_the_json_says_where_a_version_went(report, small_run, models, monkeypatch, capsys):
    from kzoo import cli

    monkeypatch.setattr(importlib.import_module("kzoo.export"), "export", lambda run, **how: report)
    how = ["--formats", "saved_model", "--serving-dir", models, "--json"]
    for version in ("1", "2"):
        cli.app([str(a) for a in ("export", small_run.path, *how)], standalone_mode=False)
        found = json.loads(capsys.readouterr().out)
        assert found.pop("published") == str(models / "cnn_classifier" / version)
        assert found == report.as_dict()


# --- pauses -------------------------------------------------------------------------------------------------------


def test_the_collector_leaves_alone_what_a_server_keeps():
    before = gc.get_freeze_count()
    try:
        with server._kept():
            assert not gc.isenabled()
            kept = [[] for _ in range(1000)]
        assert gc.isenabled() and gc.get_freeze_count() >= before + len(kept)
        with pytest.raises(subprocess.SubprocessError), server._kept():
            raise subprocess.SubprocessError
        assert gc.isenabled()
    finally:
        gc.unfreeze()
