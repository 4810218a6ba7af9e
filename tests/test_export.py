"""Exports: whole, verified in fresh processes, and verifications that can fail."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

import kzoo
from kzoo import runtimes
from kzoo.comparison import compare
from kzoo.export import ExportReport, folders, verbs, writing
from kzoo.export.formats import keras_files
from kzoo.files import sha256
from kzoo.run import Run

ARTEFACTS = {
    "h5": "model.h5",
    "keras": "model.keras",
    "weights_h5": "model.weights.h5",
    "saved_model": "saved_model/variables/variables.data-00000-of-00001",
}


@pytest.fixture(scope="module")
def exported(small_run, tmp_path_factory):
    return kzoo.export(small_run, out=tmp_path_factory.mktemp("exports") / "export")


@pytest.fixture
def copy(exported, tmp_path):
    return shutil.copytree(exported.folder, tmp_path / "copy")


@pytest.fixture
def unverified(monkeypatch):
    """Break an export off where it would start the runtimes."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "examine", stop)


def keep_only(folder, name):
    """Make an export of several formats one of a single format, so that verifying it again is quick."""
    report = json.loads((folder / "verify.json").read_text())
    for other in [f for f in report["formats"] if f != name]:
        for file in report["formats"].pop(other)["files"]:
            (folder / file).unlink()
    for figures in (report["formats"][name]["files"], report["files"]):
        for file in figures:
            figures[file] = {"bytes": (folder / file).stat().st_size, "sha256": sha256(folder / file)}
    (folder / "verify.json").write_text(json.dumps(report))


# --- a good export ------------------------------------------------------------------------------------------------


def test_every_format_is_there_and_agrees(exported):
    assert exported.ok
    assert set(exported.formats) == set(ARTEFACTS)
    for name, figures in exported.formats.items():
        assert ARTEFACTS[name] in figures["files"]
        doors = {"serving_default", "serve_images", "serve_bytes"} if name == "saved_model" else {"network"}
        assert set(figures["signatures"]) == doors
        for values in figures["signatures"].values():
            assert 0 <= values["max_difference"] <= values["tolerance"] < 1e-3
            assert values["agreement"] == 1
            assert values["batch_sizes"] == [1, 3, 16]
            assert values["latency_ms"] > 0
    assert "keras" not in exported.formats["saved_model"]["runtime"]
    assert "kzoo" not in exported.formats["h5"]["runtime"] | exported.formats["keras"]["runtime"]


def test_the_report_on_disk_names_every_byte(exported, small_run):
    written = json.loads((exported.folder / "verify.json").read_text())
    assert written == json.loads(json.dumps(exported.as_dict()))
    listed = written["files"] | {k: v for f in written["formats"].values() for k, v in f["files"].items()}
    on_disk = {p.relative_to(exported.folder).as_posix() for p in exported.folder.rglob("*") if p.is_file()}
    assert set(listed) == on_disk - {"verify.json"}
    for name, values in listed.items():
        content = exported.folder / name
        assert values == {"bytes": content.stat().st_size, "sha256": sha256(content)}
    assert written["run"]["sha256"] == sha256(small_run.weights)
    assert (exported.folder / "labels.txt").read_text().split() == list("0123456789")


def test_rows_are_a_table(exported):
    header, *rows = exported.rows()
    assert [row[:2] for row in rows[:3]] == [["h5", "network"], ["keras", "network"], ["weights_h5", "network"]]
    assert len(rows) == 6 and {len(row) for row in rows} == {len(header)}
    assert {row[-1] for row in rows} == {"yes"}
    broken = {**exported.formats["h5"], "signatures": {}, "ok": False, "error": "cannot be run"}
    report = ExportReport(**{**vars(exported), "formats": {"h5": broken}})
    assert report.rows()[1][2:] == [f"{broken['bytes'] / 1e6:.2f}", *"-----", "NO"] and not report.ok


def test_expected_answers_are_those_of_predict(exported, small_run):
    """The reference of the comparison is not the artefact's own word."""
    expected, _ = runtimes.read_calls(exported.folder / "expected.npz")
    with np.load(small_run.path / "samples.npz") as samples:
        answers = kzoo.predict(small_run, list(samples["images"]))
    assert [a["label"].encode() for a in answers] == expected["serve_images"][16]["label"].tolist()
    np.testing.assert_allclose([a["probability"] for a in answers], expected["serve_bytes"][16]["probability"], 1e-5)


def test_saved_model_answers_images_of_any_size(exported, small_run):
    import tensorflow as tf

    doors = tf.saved_model.load(str(exported.folder / "saved_model")).signatures
    images = np.random.default_rng(0).integers(0, 256, (5, 21, 13, 1), dtype=np.uint8)
    encoded = [tf.io.encode_png(i).numpy() for i in images]
    wanted = kzoo.predict(small_run, encoded)
    for answer in (
        doors["serve_images"](images=tf.constant(images)),
        doors["serve_bytes"](encoded=tf.constant(encoded)),
    ):
        assert [label.decode() for label in answer["label"].numpy()] == [w["label"] for w in wanted]
        np.testing.assert_allclose(answer["probability"], [w["probability"] for w in wanted], rtol=1e-5)
        np.testing.assert_allclose(answer["probabilities"].numpy().sum(-1), 1, rtol=1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError):
        doors["serve_bytes"](encoded=tf.constant([b"no image"]))


def test_saved_model_holds_weights_once(exported):
    import tensorflow as tf

    model = kzoo.load(exported.folder / "model.keras")
    held = tf.train.list_variables(str(exported.folder / "saved_model" / "variables" / "variables"))
    held = sum(int(np.prod(shape)) for name, shape in held if "CHECKPOINTABLE" not in name)
    assert held == model.count_params()


def test_saved_model_holds_the_operations_once(exported):
    """Three doors call one network."""
    from tensorflow.core.protobuf import saved_model_pb2

    model = kzoo.load(exported.folder / "model.keras")
    saved = saved_model_pb2.SavedModel.FromString((exported.folder / "saved_model" / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    held = [n.name for f in functions for n in f.node_def if n.op == "Conv2D"]
    assert len(held) == sum("Conv2D" in type(layer).__name__ for layer in model.layers)


def test_a_session_answers_every_door(exported):
    """TensorFlow Serving restores a graph with its saver and feeds tensors by the names of the signatures."""
    import tensorflow as tf

    inputs, expected = (runtimes.read_calls(exported.folder / f"{name}.npz")[0] for name in ("inputs", "expected"))
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        saved = tf.compat.v1.saved_model.loader.load(session, ["serve"], str(exported.folder / "saved_model"))
        for door in ("serving_default", "serve_images", "serve_bytes"):
            signature = saved.signature_def[door]
            feed = {tensor.name: inputs[door][3][name] for name, tensor in signature.inputs.items()}
            found = session.run({name: tensor.name for name, tensor in signature.outputs.items()}, feed)
            assert compare({3: expected[door][3]}, {3: found}, "float32")["ok"]


@pytest.mark.parametrize("name", ["model.h5", "model.keras", "model.weights.h5"])
def test_load_gives_the_same_network(exported, name):
    model = kzoo.load(exported.folder / name)
    calls, _ = runtimes.read_calls(exported.folder / "inputs.npz")
    expected, _ = runtimes.read_calls(exported.folder / "expected.npz")
    found = runtimes.call_network(model, calls["network"][16])["output"]
    np.testing.assert_allclose(found, expected["network"][16]["output"], rtol=1e-5, atol=1e-6)


def test_mixed_precision_is_exported_as_float32(tmp_path, capfd):
    import keras
    import tensorflow as tf

    changes = {"train.epochs": 1, "train.precision": "mixed_bfloat16", "arguments.filters": [4, 8]}
    run = kzoo.train(kzoo.load_recipe("cnn_classifier/digits", changes), out=tmp_path / "run")
    assert "mixed_bfloat16" in (run.path / "recipe.yaml").read_text()
    capfd.readouterr()
    report = kzoo.export(run, formats=["keras", "saved_model"])
    out, err = capfd.readouterr()
    assert out == "" and [line.split()[0] for line in err.splitlines()] == ["model.keras", "saved_model"]
    assert report.ok and report.folder == (run.path / "export").resolve()
    plain = keras.saving.load_model(report.folder / "model.keras", compile=False)
    assert {layer.compute_dtype for layer in plain.layers} == {"float32"}
    reader = tf.train.load_checkpoint(str(report.folder / "saved_model" / "variables" / "variables"))
    weights = [n for n in reader.get_variable_to_dtype_map() if "CHECKPOINTABLE" not in n]
    assert weights and {reader.get_variable_to_dtype_map()[n] for n in weights} == {tf.float32}


# --- verifications that fail --------------------------------------------------------------------------------------


def test_a_changed_byte_is_named(exported, copy):
    files = [p for p in copy.rglob("*") if p.is_file() and p.name != "verify.json"]
    assert len(files) >= 11
    for file in files:
        content = file.read_bytes()
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(kzoo.WorkError, match=re.escape(str(file)) + " was changed"):
            kzoo.verify(copy)
        file.write_bytes(content)


def test_a_missing_or_added_file_is_named(copy):
    added = copy / "saved_model" / "assets" / "extra.txt"
    added.parent.mkdir(exist_ok=True)
    added.write_text("not mine")
    with pytest.raises(kzoo.WorkError, match=r"extra\.txt was added"):
        kzoo.verify(copy)
    added.unlink()
    added.symlink_to(copy)
    with pytest.raises(kzoo.WorkError, match=r"extra\.txt was added"):
        kzoo.verify(copy)
    added.unlink()
    (copy / "model.keras").unlink()
    with pytest.raises(kzoo.WorkError, match=r"model\.keras is missing"):
        kzoo.verify(copy)


def test_a_changed_weight_fails_the_comparison(copy):
    """Even where the listed SHA-256 is that of the changed file."""
    import h5py

    keep_only(copy, "h5")
    assert kzoo.verify(copy).ok
    with h5py.File(copy / "model.h5", "r+") as file:
        kernels = []
        file.visititems(lambda _, member: kernels.append(member) if getattr(member, "ndim", 0) == 2 else None)
        kernels[0][0, 0] += 0.01
    keep_only(copy, "h5")
    with pytest.raises(kzoo.WorkError, match=r"h5: network differs by \S+e-0\d, and \S+e-0[56] is allowed"):
        kzoo.verify(copy)


def test_an_artefact_that_cannot_be_loaded_fails(copy, capfd):
    keep_only(copy, "saved_model")
    weights = copy / ARTEFACTS["saved_model"]
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    keep_only(copy, "saved_model")
    with pytest.raises(kzoo.WorkError, match=r"saved_model: cannot be run in plain tensorflow: OpError: .* Checksum"):
        kzoo.verify(copy)
    assert "Traceback" in capfd.readouterr().err, "the process's own words are shown"


def test_one_that_ends_its_process_does_not_touch_the_others(exported, tmp_path, monkeypatch):
    """Artefacts of a runtime are run one after the other in a process."""
    from kzoo.export import examination

    dying = tmp_path / "dying.py"
    last_word = "if 'dying' in artefact: os.kill(os.getpid(), 9)"
    source = Path(runtimes.__file__).read_text()
    marked = source.replace("    doors, packages =", f"    {last_word}\n    doors, packages =")
    assert marked != source
    dying.write_text(marked)
    monkeypatch.setattr(runtimes, "__file__", str(dying))
    good = exported.folder / "model.keras"
    paths = {"first": good, "second": tmp_path / "dying.h5", "third": good}
    found = examination._run_fresh("keras", paths, exported.folder / "inputs.npz")
    assert found["first"][2] is None and found["third"][2] is None
    np.testing.assert_array_equal(found["first"][0]["network"][3]["output"], found["third"][0]["network"][3]["output"])
    assert found["first"][1]["cpu_seconds"] > 0
    assert found["second"] == ({}, {}, "ended keras by signal 9")


def test_a_wrong_artefact_never_replaces_a_good_one(small_run, copy, monkeypatch):
    save = keras_files.Keras.save

    def save_wrong(self, subject, path):
        subject.model.layers[-1].bias.assign_add(np.full(10, 1e-3, np.float32))
        return save(self, subject, path)

    monkeypatch.setattr(keras_files.Keras, "save", save_wrong)
    with pytest.raises(kzoo.WorkError, match=r"keras: network differs by 1\.0e-03.*copy\.failed/model\.keras"):
        kzoo.export(small_run, out=copy, formats="keras")
    assert (copy / "model.h5").is_file() and json.loads((copy / "verify.json").read_text())["ok"]
    failed = copy.with_name("copy.failed")
    assert (failed / "model.keras").is_file() and not json.loads((failed / "verify.json").read_text())["ok"]


def test_a_network_that_a_format_cannot_hold_is_reported(small_run, tmp_path, monkeypatch):
    def refuse(*_):
        raise NotImplementedError("no such layer\nand much more")

    monkeypatch.setattr(keras_files.H5, "save", refuse)
    with pytest.raises(kzoo.WorkError, match=r"^h5: cannot be written: no such layer \("):
        kzoo.export(small_run, out=tmp_path / "export", formats="h5")
    assert json.loads((tmp_path / "export.failed" / "verify.json").read_text())["formats"]["h5"]["ok"] is False


def test_a_full_disk_is_said_in_one_line(small_run, tmp_path, monkeypatch):
    def fill(*_):
        raise OSError(errno.ENOSPC, "Can't close file (file write failed: time = Mon\n, filename = 'model.h5')")

    monkeypatch.setattr(keras_files.H5, "save", fill)
    with pytest.raises(kzoo.WorkError, match="failed: No space left on device$"):
        kzoo.export(small_run, out=tmp_path / "export", formats="h5")
    assert not list(tmp_path.iterdir())


def test_a_large_network_answers_few_examples_at_a_time(monkeypatch):
    """Outside a graph the outputs of all layers of all its examples would be in memory together."""
    model = kzoo.build("mlp_classifier", input_shape=[2, 3, 1], num_classes=3, units=[5])
    kept = 4 * sum(int(np.prod(layer.output.shape[1:])) for layer in model.layers)
    examples = np.random.default_rng(0).normal(size=(30, 2, 3, 1)).astype(np.float32)
    monkeypatch.setattr(writing, "MOST_KEPT", 2 * kept + 1)
    taken = []
    monkeypatch.setattr(
        runtimes,
        "call_network",
        lambda model, inputs: taken.append(inputs) or {"output": model(next(iter(inputs.values())))},
    )
    inputs, expected = writing._record(model, {"input": examples}, {})
    assert [len(values["input"]) for values in taken] == [2, 2, 2, 2]
    assert sorted(expected["network"]) == [1, 3, 8]
    for size in (1, 3, 8):
        np.testing.assert_array_equal(inputs["network"][size]["input"], examples[:size])
        np.testing.assert_allclose(expected["network"][size]["output"], model(examples[:size]), atol=1e-6)


def test_rows_that_depend_on_each_other_are_answered_together():
    """A text's seed is said once for all of its rows."""
    import tensorflow as tf

    from kzoo.tasks.base import Signature

    def noisy(values, seed):
        return {"noisy": values + tf.random.stateless_normal(tf.shape(values), [seed, 0])}

    specs = (tf.TensorSpec([None, 2], tf.float32, name="values"), tf.TensorSpec([], tf.int32, name="seed"))
    example = {"values": np.zeros((4, 2), np.float32), "seed": np.array(7, np.int32)}
    model = kzoo.build("mlp_classifier", input_shape=[2, 3, 1], num_classes=3, units=[5])
    _, expected = writing._record(
        model, np.zeros((4, 2, 3, 1), np.float32), {"noisy": Signature(noisy, specs, example)}
    )
    for size in (1, 3, 4):
        drawn = tf.random.stateless_normal([size, 2], [7, 0])
        np.testing.assert_array_equal(expected["noisy"][size]["noisy"], drawn)


def test_a_network_of_nan_is_not_exported(small_run, tmp_path):
    run = shutil.copytree(small_run.path, tmp_path / "run")
    with np.load(Run(run).weights) as archive:
        arrays = {k: np.full_like(v, np.nan) if k.startswith("model/00000") else v for k, v in archive.items()}
    np.savez(Run(run).weights, **arrays)
    with pytest.raises(kzoo.WorkError, match="answers real inputs with NaN"):
        kzoo.export(run, out=tmp_path / "export")
    assert not (tmp_path / "export").exists()


@pytest.mark.parametrize(
    ("found", "ok", "difference", "agreement"),
    [
        ({}, True, 0, 1),
        ({"scores": np.array([[1, 2 + 3e-5], [5, 3]], np.float32)}, True, 3e-5, 1),
        ({"scores": np.array([[1, 2 + 1e-4], [5, 3]], np.float32)}, False, 1e-4, 1),
        ({"scores": np.array([[1, np.nan], [5, 3]], np.float32)}, False, np.inf, 1),
        ({"label": np.array([b"cat", b"cat"], object)}, False, 0, 0.5),
        ({"scores": np.array([[1, 2]], np.float32)}, False, None, None),
        ({"scores": np.array([[1, 2], [5, 3]], np.float64)}, False, None, None),
        ({"label": None}, False, None, None),
    ],
)
def test_comparison(found, ok, difference, agreement):
    live = {"scores": np.array([[1, 2], [5, 3]], np.float32), "label": np.array([b"dog", b"cat"], object)}
    figures = compare({2: live}, {2: live | found})
    assert figures["ok"] is ok
    assert figures["agreement"] == agreement
    assert figures["max_difference"] == (None if difference is None else pytest.approx(difference, rel=0.02))
    assert compare({2: live}, {})["ok"] is False


def test_calls_keep_strings_and_numbers(tmp_path):
    strings = np.array([[b"", b"a\0"], [b"\0\0", "ä".encode()]], object)
    calls = {"door": {2: {"text": strings, "seed": np.array(7, np.int64), "name": np.array("ö")}}}
    runtimes.write_calls(tmp_path / "calls.npz", calls, {"versions": {}})
    found, document = runtimes.read_calls(tmp_path / "calls.npz")
    assert found["door"][2]["text"].tolist() == strings.tolist()
    assert found["door"][2]["name"].item() == "ö".encode()
    assert found["door"][2]["seed"].dtype == np.int64 and found["door"][2]["seed"] == 7
    assert document == {"versions": {}}


# --- mutilated files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.h5", "model.keras", "model.weights.h5"])
def test_a_truncated_file_is_refused(copy, name):
    content = (copy / name).read_bytes()
    for share in (0, 0.01, 0.5, 0.95):
        (copy / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(kzoo.RequestError, match=re.escape(name)):
            kzoo.load(copy / name)


def test_a_damaged_heap_is_refused(copy):
    """HDF5 answers some damage with RuntimeError."""
    content = (copy / "model.weights.h5").read_bytes()
    (copy / "model.weights.h5").write_bytes(content.replace(b"HEAP", b"PAEH"))
    with pytest.raises(kzoo.RequestError, match="is damaged"):
        kzoo.load(copy / "model.weights.h5")


@pytest.mark.parametrize("name", ["model.h5", "model.keras", "model.weights.h5"])
def test_a_shape_bomb_is_refused(copy, name):
    import h5py

    bomb = copy / "bomb.h5"
    with h5py.File(bomb, "w") as file:
        file.create_dataset("layers/dense/vars/0", shape=(40_000_000_000,), chunks=(1_000_000,), dtype="f4")
    assert bomb.stat().st_size < 100_000
    if name == "model.keras":
        with zipfile.ZipFile(copy / name, "w") as archive:
            archive.write(bomb, "model.weights.h5")
    else:
        bomb.rename(copy / name)
    with pytest.raises(kzoo.RequestError, match="declares 160,000,000,000 bytes"):
        kzoo.load(copy / name)


# --- wrong requests -----------------------------------------------------------------------------------------------


def test_unknown_format_names_the_nearest(small_run):
    with pytest.raises(kzoo.RequestError, match="'savedmodel'; did you mean 'saved_model'"):
        kzoo.export(small_run, formats=("h5", "savedmodel"))
    with pytest.raises(kzoo.RequestError, match="at least one format"):
        kzoo.export(small_run, formats=())


def test_runs_that_cannot_be_exported(small_run, tmp_path):
    with pytest.raises(kzoo.RequestError, match="there is no such folder"):
        kzoo.export(tmp_path / "nowhere")
    bare = shutil.copytree(small_run.path, tmp_path / "bare")
    (bare / "samples.npz").write_bytes(b"PK\3\4")
    with pytest.raises(kzoo.RequestError, match=r"samples\.npz cannot be read"):
        kzoo.export(Run(bare))
    (bare / "samples.npz").unlink()
    with pytest.raises(kzoo.RequestError, match=r"no samples\.npz"):
        kzoo.export(Run(bare))
    shutil.rmtree(bare / "checkpoints")
    with pytest.raises(kzoo.RequestError, match="no checkpoint"):
        kzoo.export(bare)
    assert not (bare / "export").exists()


def test_out_folders_that_cannot_be_written(small_run, copy, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(kzoo.RequestError, match="cannot be written: Not a directory"):
        kzoo.export(small_run, out=tmp_path / "file" / "export")
    with pytest.raises(kzoo.RequestError, match="is a file"):
        kzoo.export(small_run, out=tmp_path / "file")
    with pytest.raises(kzoo.RequestError, match="not empty and holds no export"):
        kzoo.export(small_run, out=small_run.path)
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(kzoo.RequestError, match=r"notes\.txt .* would be lost"):
        kzoo.export(small_run, out=copy)
    with folders.staging(tmp_path / "busy"):
        with pytest.raises(kzoo.RequestError, match="another process"):
            kzoo.export(small_run, out=tmp_path / "busy")
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")], "nothing is left behind"


def test_folders_that_are_no_exports(tmp_path):
    with pytest.raises(kzoo.RequestError, match="there is no such folder"):
        kzoo.verify(tmp_path / "nowhere")
    with pytest.raises(kzoo.RequestError, match=r"holds no verify\.json"):
        kzoo.verify(tmp_path)
    for content, reason in (
        ("{", "not valid JSON"),
        ("[]", "not a report"),
        ('{"schema": 1, "run": {}, "files": {}, "formats": {"onyx": {"files": {}}}}', "not a report"),
        ('{"schema": 1, "run": {"sha256": ""}, "files": [], "formats": {}}', "not a report"),
    ):
        (tmp_path / "verify.json").write_text(content)
        with pytest.raises(kzoo.RequestError, match=reason):
            kzoo.verify(tmp_path)
    with pytest.raises(kzoo.RequestError, match="there is no such folder"):
        kzoo.verify(tmp_path / "verify.json")


# --- killed on the way --------------------------------------------------------------------------------------------


def test_an_interrupted_export_leaves_the_former_one(small_run, copy, unverified):
    before = {p: sha256(p) for p in copy.rglob("*") if p.is_file()}
    with pytest.raises(KeyboardInterrupt):
        kzoo.export(small_run, out=copy)
    assert {p: sha256(p) for p in copy.rglob("*") if p.is_file()} == before
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]


def test_what_a_killed_export_left_is_swept_up(small_run, copy, unverified):
    """Killed between its two renames: the former export had been put aside."""
    copy.rename(copy.with_name(".copy.old"))
    left = copy.with_name(".copy.new") / "saved_model"
    left.mkdir(parents=True)
    (left / "half").write_text("")
    with pytest.raises(KeyboardInterrupt):
        kzoo.export(small_run, out=copy, formats="keras")
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]
    assert (copy / "model.h5").is_file()


@pytest.mark.slow
def test_killed_exports_leave_no_half_artefact(small_run, copy):
    before = {p: sha256(p) for p in copy.rglob("*") if p.is_file()}
    program = f"import kzoo; kzoo.export({str(small_run.path)!r}, out={str(copy)!r}, formats=['h5', 'saved_model'])"
    for seconds in (4, 7, 10, 13):
        process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        files = {p: sha256(p) for p in copy.rglob("*") if p.is_file()}
        assert files == before or json.loads((copy / "verify.json").read_text())["ok"]
    assert kzoo.export(small_run, out=copy, formats="h5").ok
    assert kzoo.verify(copy).ok
    assert [p.name for p in copy.parent.iterdir()] == ["copy"]
