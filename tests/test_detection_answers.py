"""A trained detector's boxes on pictures, by command, in Python and from the exported artefact."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import kzoo


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    from PIL import Image

    from kzoo.data.detection import scenes

    path = tmp_path_factory.mktemp("pictures") / "street.png"
    Image.fromarray(scenes.draw((9, 9))[0]).save(path)
    return path


def test_predict_writes_pictures_coco_results_and_kitti_labels(small_detector, picture, tmp_path, command):
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        folder.mkdir()
        (folder / "000017.png").write_bytes(picture.read_bytes())
    out = tmp_path / "out"
    options = ["--score", 0.01, "--limit", 3, "--formats", "pictures,coco,kitti", "--out", out, "--json"]
    done = command("predict", small_detector.path, *folders, *options)
    assert done.code == 0, done.err
    answers = json.loads(done.out)
    for answer, name in zip(answers, ("000017", "000017-2"), strict=True):
        assert (answer["height"], answer["width"]) == (120, 400) and len(answer["objects"]) == 3
        for thing in answer["objects"]:
            x1, y1, x2, y2 = thing["box"]
            assert 0 <= x1 <= x2 <= 400 and 0 <= y1 <= y2 <= 120 and thing["label"] in ("Car", "Pedestrian")
        assert Path(answer["picture"]) == out / f"{name}.png"
        assert Path(answer["picture"]).read_bytes().startswith(b"\x89PNG")
    rows = json.loads((out / "detections.json").read_text())
    assert [r["image_id"] for r in rows] == [17, 17, 17, "000017-2", "000017-2", "000017-2"]
    thing = answers[0]["objects"][0]
    x1, y1, x2, y2 = thing["box"]
    assert rows[0]["category_id"] == 1 + ["Car", "Pedestrian"].index(thing["label"])
    np.testing.assert_allclose(rows[0]["bbox"], [x1, y1, x2 - x1, y2 - y1], atol=0.01)
    lines = (out / "labels" / "000017.txt").read_text().splitlines()
    first = lines[0].split()
    assert len(lines) == 3 and len(first) == 16 and first[0] == thing["label"]
    np.testing.assert_allclose([float(v) for v in first[4:8]], thing["box"], atol=0.01)
    assert float(first[15]) == pytest.approx(thing["score"], abs=1e-4)


def test_pictures_of_any_size_and_form_are_answered_alike(small_detector, picture):
    from kzoo.data import decode

    pixels = decode.image(picture.read_bytes(), None, 3, "stretch")
    answers = kzoo.predict(small_detector, [picture, picture.read_bytes(), pixels], score=0.05)
    assert answers[0]["objects"] == answers[1]["objects"] == answers[2]["objects"]
    (large,) = kzoo.predict(small_detector, [np.repeat(np.repeat(pixels, 2, 0), 2, 1)], score=0.05, limit=1)
    assert (large["height"], large["width"]) == (240, 800)


def test_a_video_is_answered_frame_by_frame_and_drawn_as_a_video(small_detector, tmp_path):
    imageio = pytest.importorskip("imageio.v3")
    pytest.importorskip("imageio_ffmpeg")
    from kzoo.data.detection import scenes

    frames = np.stack([scenes.draw((9, n))[0] for n in (0, 1, 1)] * 4)
    imageio.imwrite(tmp_path / "drive.mp4", frames, plugin="FFMPEG", fps=7, macro_block_size=1)
    found = kzoo.predict(
        small_detector, tmp_path / "drive.mp4", score=0.01, limit=2, out=tmp_path / "out", formats="pictures,kitti"
    )
    assert [a["frame"] for a in found] == list(range(12)) and {len(a["objects"]) for a in found} == {2}
    assert {a["picture"] for a in found} == {str(tmp_path / "out" / "drive.mp4")}
    drawn = imageio.imread(tmp_path / "out" / "drive.mp4", plugin="FFMPEG")
    assert drawn.shape == (12, 360, 1200, 3)
    assert imageio.immeta(tmp_path / "out" / "drive.mp4", plugin="FFMPEG")["fps"] == 7
    assert (tmp_path / "out" / "labels" / "drive_000011.txt").is_file()
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    with pytest.raises(kzoo.RequestError, match=r"bad\.mp4 is no readable video"):
        kzoo.predict(small_detector, tmp_path / "bad.mp4")


def test_a_video_without_the_extra_says_what_to_install(small_detector, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio", None)
    (tmp_path / "drive.mp4").write_bytes(b"")
    with pytest.raises(kzoo.RequestError, match=r"drive\.mp4 is a video, .* pip install 'kzoo\[video\]'"):
        kzoo.predict(small_detector, tmp_path / "drive.mp4")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"formats": "coco"}, "takes out, the folder"),
        ({"formats": "coc", "out": "."}, "no format 'coc' of detections; did you mean 'coco'"),
        ({"score": 1.0}, "score is 1.0"),
        ({"overlap": 0.0}, "overlap is 0.0"),
        ({"limit": 0}, "limit is 0"),
        ({"top": 3}, "detection has no option 'top' of predict"),
    ],
)
def test_options_out_of_range_are_refused(small_detector, picture, options, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.predict(small_detector, picture, **options)


def test_what_is_no_picture_is_named(small_detector, tmp_path):
    (tmp_path / "no.png").write_bytes(b"nothing")
    with pytest.raises(kzoo.RequestError, match=r"no\.png is no readable picture"):
        kzoo.predict(small_detector, tmp_path)


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_the_exported_artefact_answers_pictures_in_their_own_pixels(small_detector, picture, fit, tmp_path):
    import tensorflow as tf

    from kzoo.build import rebuild
    from kzoo.export.formats.saved_model import write_signatures
    from kzoo.tasks import open_answers

    card = {**small_detector.card, "preprocessing": {**small_detector.card["preprocessing"], "fit": fit}}
    card["detect"] = {**card["detect"], "score": 0.05}
    model, answers = rebuild(card, small_detector.weights), open_answers(card)
    for number, layer in enumerate(layer for layer in model.layers if layer.name.startswith("head") and layer.weights):
        # Scores that are far apart, so that no rounding changes their order.
        rng = np.random.default_rng(number)
        layer.set_weights([rng.normal(0, 0.1, w.shape) for w in layer.get_weights()])
    with np.load(small_detector.path / "samples.npz") as stored:
        signatures = answers.signatures(model, dict(stored))
    write_signatures(signatures, tmp_path / "saved")
    served = tf.saved_model.load(str(tmp_path / "saved"))
    encoded = [picture.read_bytes(), picture.read_bytes()]
    found = {k: v.numpy() for k, v in served.signatures["serve_bytes"](encoded=tf.constant(encoded)).items()}
    expected = answers.answer(model, encoded, score=0.05)
    count = found["count"][1]
    assert count == len(expected[1]["objects"]) > 0
    np.testing.assert_allclose(found["boxes"][1, :count], [o["box"] for o in expected[1]["objects"]], atol=0.02)
    assert [s.decode() for s in found["labels"][1, :count]] == [o["label"] for o in expected[1]["objects"]]
    assert not found["boxes"][1, count:].any() and not any(found["labels"][1, count:])


def test_folding_the_normalisation_changes_no_answer():
    import keras

    from kzoo.tasks.detection.folding import folded
    from tests.models.test_vgg16_detector import SMALL

    model = kzoo.build("vgg16_detector", **SMALL)
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    plain = folded(model, "vgg16_detector", SMALL)
    assert not any(isinstance(layer, keras.layers.BatchNormalization) for layer in plain.layers)
    images = rng.normal(size=(2, 64, 96, 3)).astype("float32")
    for name, expected in model(images, training=False).items():
        expected = np.asarray(expected)
        np.testing.assert_allclose(plain(images)[name], expected, atol=1e-5 * np.abs(expected).max())
    assert folded(model.__call__, "vgg16_detector", SMALL) == model.__call__, "a network of another runtime stays"
    other = {**SMALL, "batch_norm": False}
    assert folded(plain, "vgg16_detector", other) is plain


def test_export_verifies_all_three_doors(small_detector, tmp_path):
    report = kzoo.export(small_detector, out=tmp_path / "export", formats=("h5", "saved_model"))
    assert report.ok
    assert set(report.formats["saved_model"]["signatures"]) == {"serving_default", "serve_images", "serve_bytes"}
    # The default boxes of both doors that need them are stored once, as the weights are.
    import tensorflow as tf

    boxes = kzoo.load(report.folder / "model.h5").default_boxes
    held = dict(tf.train.list_variables(str(report.folder / "saved_model" / "variables" / "variables")))
    assert list(held.values()).count(list(boxes.shape)) == 1
    assert boxes.tobytes() not in (report.folder / "saved_model" / "saved_model.pb").read_bytes()
