"""Formats beyond Keras's own: ONNX and LiteRT, and what is not float32; and predicting with any artefact."""

import json
import os
import typing

import keras
import numpy as np
import pytest

import kzoo
from kzoo import artefacts, runtimes
from kzoo.comparison import compare
from kzoo.export import FORMATS, judging
from kzoo.export.formats import NETWORK, Subject, onnx, onnx_weights
from kzoo.export.writing import Written
from kzoo.sections import ExportFormat

for package in ("onnx", "onnxruntime", "tf2onnx", "ai_edge_litert"):
    pytest.importorskip(package)

QUANTISED = [name for name, kind in FORMATS.items() if kind.precision != "float32"]


@pytest.fixture(scope="module")
def exported(small_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("formats") / "export"
    return kzoo.export(small_run, out=out, formats=["onnx", "litert", "saved_model", *QUANTISED])


@pytest.fixture(scope="module")
def images(small_run):
    with np.load(small_run.path / "samples.npz") as samples:
        return list(samples["images"])


def test_recipes_name_every_format():
    assert set(typing.get_args(ExportFormat)) == set(FORMATS)


# --- a classifier, by the verb ------------------------------------------------------------------------------------


def test_onnx_and_litert_agree_in_their_own_runtimes(exported):
    assert exported.ok
    for name, runtime in (("onnx", "onnxruntime"), ("litert", "ai_edge_litert")):
        figures = exported.formats[name]
        assert set(figures["runtime"]) == {"python", "numpy", runtime}
        assert set(figures["signatures"]) == {"network", "serve_pixels"} and not figures["refused"]
        for values in figures["signatures"].values():
            assert values["max_difference"] <= values["tolerance"] < 1e-3
            assert values["agreement"] == 1 and values["batch_sizes"] == [1, 3, 16]
    assert set(exported.formats["onnx"]["files"]) == {"model.onnx", "model-serve_pixels.onnx"}


@pytest.mark.parametrize("name", QUANTISED)
def test_what_is_not_float32_is_judged_on_the_test_part(exported, small_run, name):
    test = exported.formats[name]["test"]
    assert test["figure"] == "accuracy" and test["split"] == "test"
    assert test["float"] == pytest.approx(small_run.summary["test"]["accuracy"], abs=1e-6)
    assert test["value"] >= test["float"] - test["allowed"]
    assert exported.formats[name]["precision"] in ("float16", "int8")


def test_quantised_files_are_smaller(exported):
    size = {name: figures["bytes"] for name, figures in exported.formats.items()}
    assert size["litert_int8"] < size["litert_float16"] and size["onnx_int8"] < size["onnx"]


def test_the_table_shows_figures_of_the_test_part(exported):
    header, *rows = exported.rows()
    place = header.index("test")
    assert {row[place] == "-" for row in rows if row[0] in ("onnx", "litert", "saved_model")} == {True}
    assert all("(float 0." in row[place] for row in rows if row[0] in QUANTISED)


@pytest.mark.parametrize(
    "name", ["model.onnx", "model.tflite", "saved_model", "model.int8.onnx", "model.float16.tflite", "model.int8.keras"]
)
def test_predict_answers_the_same_with_any_artefact(exported, small_run, images, name):
    wanted = kzoo.predict(small_run, images)
    found = kzoo.predict(exported.folder / name, images)
    same = np.mean([a["label"] == b["label"] for a, b in zip(wanted, found, strict=True)])
    assert same == 1 if "int8" not in name else same > 0.8
    tolerance = 0.15 if "int8" in name else 5e-3 if "float16" in name else 1e-5
    np.testing.assert_allclose(
        [b["probability"] for b in found], [a["probability"] for a in wanted], rtol=0, atol=tolerance
    )


def test_predict_with_an_artefact_on_the_command_line(exported, small_run, images, tmp_path, command):
    from PIL import Image

    Image.fromarray(images[0][..., 0]).save(tmp_path / "digit.png")
    done = command("predict", exported.folder / "model.onnx", tmp_path / "digit.png", "--json")
    assert done.code == 0, done.err
    [answer] = json.loads(done.out)
    [wanted] = kzoo.predict(small_run, tmp_path / "digit.png")
    assert answer["label"] == wanted["label"] and answer["probability"] == pytest.approx(wanted["probability"], 1e-4)
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    done = command("predict", tmp_path / "model.onnx", tmp_path / "digit.png")
    assert done.code == 2 and "cannot be opened: it is no ONNX file" in done.err and "Traceback" not in done.err


def test_the_card_travels_inside(exported, small_run):
    card = {**small_run.card, "run": exported.run["sha256"]}
    for name in ("model.onnx", "model.tflite", "saved_model", "model.int8.onnx", "model.float16.onnx"):
        assert artefacts.card(exported.folder / name) == card
    assert (exported.folder / "saved_model" / "assets.extra" / "labels.txt").read_text().split() == list("0123456789")


def test_batch_is_called_batch(exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported.folder / "model.onnx"))
    assert session.get_inputs()[0].shape == ["batch", 8, 8, 1] and session.get_outputs()[0].shape == ["batch", 10]


def test_a_quantised_network_that_lost_too_much_is_refused(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "MOST_LOST", -0.5)
    monkeypatch.setattr(judging, "_spread", lambda *_: -1.0)
    with pytest.raises(kzoo.WorkError, match=r"its accuracy on the test part is 0\.\d+, where the float network has"):
        kzoo.export(small_run, out=tmp_path / "export", formats="litert_dynamic")
    report = json.loads((tmp_path / "export.failed" / "verify.json").read_text())
    assert not report["ok"] and not report["formats"]["litert_dynamic"]["ok"]


def test_a_missing_package_is_named_before_any_work(small_run, tmp_path, monkeypatch):
    find = onnx.Onnx.check.__globals__["importlib"].util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name, *a: None if name == "tf2onnx" else find(name, *a))
    with pytest.raises(kzoo.RequestError, match=r"onnx needs tf2onnx.*pip install 'kzoo\[onnx\]'"):
        kzoo.export(small_run, out=tmp_path / "export", formats="onnx")


# --- weights of ONNX's doors, written once ---------------------------------------------------------------------


def test_doors_of_onnx_take_their_weights_from_the_network(exported):
    import onnx

    main = exported.folder / "model.onnx"
    content, whole = main.read_bytes(), onnx.load(main, load_external_data=False)
    onnx.checker.check_model(whole)
    large = [t for t in whole.graph.initializer if len(t.raw_data) >= onnx_weights.SMALLEST]
    assert len(large) >= 2 and all(t.data_location == onnx.TensorProto.DEFAULT for t in whole.graph.initializer)
    beside = onnx.load(exported.folder / "model-serve_pixels.onnx", load_external_data=False)
    shared = [t for t in beside.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert len(shared) == len(large)
    for tensor in shared:
        said = {entry.key: entry.value for entry in tensor.external_data}
        offset, length = int(said["offset"]), int(said["length"])
        assert said["location"] == "model.onnx" and offset % onnx_weights.ALIGNMENT == 0
        assert content[offset : offset + length] in {t.raw_data for t in large}


def test_the_network_of_onnx_opens_alone(exported, images, tmp_path):
    alone = tmp_path / "model.onnx"
    alone.write_bytes((exported.folder / "model.onnx").read_bytes())
    assert kzoo.predict(alone, images) == kzoo.predict(exported.folder / "model.onnx", images)


def test_weights_in_the_bodies_of_loops_are_shared_too(tmp_path):
    model, card = language_model(RECURRENT[0], num_layers=1, units=64, embedding=16)
    raw = {"tokens": np.random.default_rng(0).integers(1, 12, (3, 9)).astype(np.int32)}
    _, subject = subject_of(model, card, raw, tmp_path)
    saved(subject, "onnx", tmp_path)
    size = {p.name: p.stat().st_size for p in tmp_path.glob("*.onnx")}
    # The network's are in the order of ONNX's own LSTM, so that the step has its own, and the loop has the step's.
    assert size["model-write.onnx"] < 4 * model.count_params() < min(size["model.onnx"], size["model-step.onnx"]), size


@pytest.mark.parametrize("sizes", [(2000,), (1024, 1500, 3), (5000,) * 40, (200_000, 1100)])
def test_tensors_lie_at_round_places(sizes, tmp_path):
    """Whatever the lengths of names and numbers before them."""
    import onnx

    rng = np.random.default_rng(0)
    arrays = {f"{'w' * (n % 7)}{n}": rng.integers(0, 256, size, np.uint8) for n, size in enumerate(sizes)}
    tensors = [onnx.numpy_helper.from_array(value, name) for name, value in arrays.items()]
    graph = onnx.helper.make_graph([], "g", [], [], tensors)
    places = {}
    onnx_weights.write(onnx.helper.make_model(graph), tmp_path / "m.onnx", places)
    content = (tmp_path / "m.onnx").read_bytes()
    assert len(places) == sum(size >= onnx_weights.SMALLEST for size in sizes)
    for place in places.values():
        assert place.file == "m.onnx" and place.offset % onnx_weights.ALIGNMENT == 0
        found = np.frombuffer(content[place.offset : place.offset + place.length], np.uint8)
        assert any(np.array_equal(found, value) for value in arrays.values())
    read = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(tmp_path / "m.onnx").graph.initializer}
    assert read.keys() == arrays.keys() and all(np.array_equal(read[n], arrays[n]) for n in arrays)


# --- other families, without training -----------------------------------------------------------------------------


def subject_of(model, card, raw, tmp_path):
    """A subject with the doors that numeric runtimes take."""
    from kzoo import tasks

    answers = tasks.open_answers(card)
    return answers, Subject(model, card, {}, answers.numeric_signatures(model, raw), tmp_path, lambda door: {})


def saved(subject, name, tmp_path):
    """Doors of an artefact, and what it refused."""
    path = tmp_path / FORMATS[name].artefact
    refused = FORMATS[name].save(subject, path)
    opened = {"onnx": runtimes.open_onnx, "litert": runtimes.open_litert, "openvino": runtimes.open_openvino}[name]
    return path, opened(path), refused


def importorskip(kind):
    if kind == "openvino":
        pytest.importorskip("openvino")


def language_model(name, **arguments):
    keras.utils.set_random_seed(1)
    model = kzoo.build(name, vocab_size=12, **arguments)
    state = {t.name: {"shape": list(t.shape[1:]), "dtype": t.dtype} for t in model.inputs if t.name != "tokens"}
    tokenizer = {"kind": "characters", "vocabulary": "\nabcdefghij"}
    card = {"task": "text", "model": name, "arguments": {"vocab_size": 12, **arguments}}
    return model, {**card, "state": state, "tokenizer": tokenizer}


RECURRENT = ("lstm_textgen", {"num_layers": 1, "units": 8, "embedding": 4})
ATTENTION = ("transformer_textgen", {"num_layers": 1, "num_heads": 2, "width": 8, "context": 6})


@pytest.mark.parametrize(("name", "arguments"), [RECURRENT, ATTENTION])
@pytest.mark.parametrize("kind", ["onnx", "litert", "openvino"])
def test_language_models(name, arguments, kind, tmp_path):
    importorskip(kind)
    model, card = language_model(name, **arguments)
    raw = {"tokens": np.random.default_rng(0).integers(1, 12, (3, 9)).astype(np.int32)}
    answers, subject = subject_of(model, card, raw, tmp_path)
    path, doors, refused = saved(subject, kind, tmp_path)
    if kind == "openvino":
        assert refused == {"write": "OpenVINO cannot hold it: its reader of ONNX does not take this Loop"}
    elif (name, kind) == ("lstm_textgen", "litert"):
        assert set(refused) == {NETWORK} and "no arrays of tensors of an open shape" in refused[NETWORK]
    else:
        assert not refused
    inputs = answers.network_inputs(raw)
    wanted = {k: np.asarray(v) for k, v in model(inputs).items()}
    # The network itself, or its steps one after the other: several batches and lengths, and the state comes out too.
    for network in (artefacts.Network(path, model), *([doors[NETWORK]] if NETWORK in doors else [])):
        for rows, length in ((3, 9), (1, 4)):
            some = {k: v[:rows] for k, v in inputs.items()} | {"tokens": raw["tokens"][:rows, :length]}
            found = network(some)
            np.testing.assert_allclose(found["logits"], wanted["logits"][:rows, :length], rtol=1e-5, atol=1e-6)
            if length == 9:
                assert set(found) == set(wanted)
    if "write" in refused:
        return
    longer = {"tokens": raw["tokens"], "length": np.array(5, np.int32)}
    signature = answers.numeric_signatures(model, raw)["write"]
    written = np.asarray(signature.function(*longer.values())["written"])
    assert written.shape == (3, 5)
    np.testing.assert_array_equal(doors["write"](longer)["written"], written)
    # The most probable continuation is also what the task's own loop writes at temperature 0.
    prompts = [answers.tokenizer.decode(row) for row in raw["tokens"]]
    texts = answers.answer(artefacts.Network(path, model), prompts, length=5, temperature=0.0)
    assert [t["continuation"] for t in texts] == [answers.tokenizer.decode(row) for row in written]


def test_half_precision_keeps_norms_of_large_features(tmp_path):
    """A detector's feature maps are divided by their norm, whose square half precision does not hold."""
    import onnxruntime

    arguments = {"input_shape": [64, 64, 3], "width": 0.0625, "num_classes": 2, "taps": [3], "extras": []}
    arguments |= {"scales": [0.2, 0.5, 0.8], "aspect_ratios": [[2.0], [2.0]]}
    model = kzoo.build("vgg16_detector", **arguments)
    subject = Subject(model, {"model": "vgg16_detector"}, {}, {}, tmp_path, lambda door: {})
    FORMATS["onnx_float16"].save(subject, tmp_path / "model.float16.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.float16.onnx"))
    image = 300 * np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype(np.float32)
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, {"image": image}), strict=True))
    for name, wanted in model(image).items():
        wanted = np.asarray(wanted)
        np.testing.assert_allclose(found[name], wanted, rtol=0, atol=5e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("kind", ["onnx", "litert", "openvino"])
def test_q_networks(kind, tmp_path):
    importorskip(kind)
    model = kzoo.build("dqn_mlp", observation_shape=[4], num_actions=3, hidden=[8])
    environment = {"observation_shape": [4], "dtype": "float32", "num_actions": 3}
    card = {"task": "control", "model": "dqn_mlp", "environment": environment}
    card["arguments"] = {"observation_shape": [4], "num_actions": 3, "hidden": [8]}
    raw = {"observations": np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)}
    answers, subject = subject_of(model, card, raw, tmp_path)
    path, doors, refused = saved(subject, kind, tmp_path)
    values = np.asarray(model(raw["observations"]))
    assert not refused
    found = doors["act"](raw)
    np.testing.assert_array_equal(found["action"], values.argmax(-1))
    np.testing.assert_allclose(found["q_values"], values, rtol=1e-5, atol=1e-6)
    answered = answers.answer(artefacts.Network(path, model), [raw["observations"]])
    assert [a["action"] for a in answered] == values.argmax(-1).tolist()


def test_plain_suppression_is_that_of_tensorflow():
    from kzoo.tasks.detection.detections import finish, finish_plainly

    rng = np.random.default_rng(0)
    ours = np.concatenate([rng.uniform(0.1, 0.9, (300, 2)), rng.uniform(0.05, 0.5, (300, 2))], 1).astype(np.float32)
    outputs = {"boxes": rng.normal(size=(4, 300, 4)), "classes": 3 * rng.normal(size=(4, 300, 4))}
    outputs = {name: values.astype(np.float32) for name, values in outputs.items()}
    # Fewer detections than the limit, and more.
    for score, limit in ((0.9, 100), (0.05, 20)):
        how = {"score": score, "overlap": 0.4, "limit": limit}
        wanted, found = finish(outputs, ours, **how), finish_plainly(outputs, ours, **how)
        assert wanted["count"].numpy().min() > 0 and (wanted["count"].numpy().max() == limit) == (limit == 20)
        for name in wanted:
            np.testing.assert_allclose(found[name], wanted[name], rtol=0, atol=1e-6, err_msg=name)


# --- comparison ---------------------------------------------------------------------------------------------------


def detections(**changes):
    boxes = np.array([[[0, 0, 10, 10], [20, 20, 40, 40], [0, 0, 0, 0]]], np.float32)
    scores, classes = np.array([[0.9, 0.8, 0]], np.float32), np.array([[1, 0, 0]], np.int32)
    return {"boxes": boxes, "scores": scores, "classes": classes, "count": np.array([2], np.int32)} | changes


def test_detections_agree_whatever_their_order():
    live = detections()
    swapped = detections(boxes=live["boxes"][:, [1, 0, 2]], classes=live["classes"][:, [1, 0, 2]])
    assert compare({1: live}, {1: swapped})["agreement"] == 1 and compare({1: live}, {1: swapped})["ok"]
    moved = live["boxes"].copy()
    moved[0, 1] += 0.01
    assert compare({1: live}, {1: detections(boxes=moved)})["ok"], "an IoU of 0.998"
    moved[0, 1] += 1
    figures = compare({1: live}, {1: detections(boxes=moved)})
    assert not figures["ok"] and figures["agreement"] == pytest.approx(3 / 5)
    assert not compare({1: live}, {1: detections(classes=np.array([[0, 0, 0]], np.int32))})["ok"]
    assert not compare({1: live}, {1: detections(scores=np.array([[0.9, 0.7, 0]], np.float32))})["ok"]
    assert not compare({1: live}, {1: detections(count=np.array([1], np.int32))})["ok"]


def test_a_decision_between_equals_may_go_either_way():
    live = {"q_values": np.array([[1, 1 + 1e-6], [3, 2]], np.float32), "action": np.array([1, 0])}
    assert compare({2: live}, {2: {**live, "action": np.array([0, 0])}})["ok"]
    assert not compare({2: live}, {2: {**live, "action": np.array([1, 1])}})["ok"]


def test_tolerances_follow_the_precision():
    live, found = ({"output": np.array([[1, v]], np.float32)} for v in (2, 2 + 5e-3))
    assert not compare({1: live}, {1: found})["ok"]
    assert compare({1: live}, {1: found}, "float16")["ok"] and compare({1: live}, {1: found}, "int8")["ok"]


def test_nothing_to_compare_with_is_no_agreement():
    assert not compare({}, {})["ok"]
    assert Written("keras").doors == []


def test_a_failed_conversion_leaves_the_converter_as_it_was(monkeypatch):
    pytest.importorskip("tf2onnx")
    from tf2onnx.graph import Graph

    before, name = Graph.update_proto, "TF2ONNX_CATCH_ERRORS"
    monkeypatch.delenv(name, raising=False)
    with pytest.raises(ZeroDivisionError), onnx._without_copies():
        assert Graph.update_proto is not before and os.environ[name] == "FALSE"
        1 / 0  # noqa: B018
    assert Graph.update_proto is before and name not in os.environ
