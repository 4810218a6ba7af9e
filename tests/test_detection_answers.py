"""A trained detector's boxes on pictures, by command, in Python and from the exported artefact."""

import json
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


def test_predict_writes_pictures_with_boxes_and_json(small_detector, picture, tmp_path, command):
    options = {"--score": 0.01, "--limit": 5, "--out": tmp_path / "drawn"}
    flat = [part for pair in options.items() for part in pair]
    done = command("predict", small_detector.path, picture, *flat, "--json")
    assert done.code == 0, done.err
    (answer,) = json.loads(done.out)
    assert (answer["height"], answer["width"]) == (120, 400) and len(answer["objects"]) == 5
    for thing in answer["objects"]:
        x1, y1, x2, y2 = thing["box"]
        assert 0 <= x1 <= x2 <= 400 and 0 <= y1 <= y2 <= 120 and thing["label"] in ("Car", "Pedestrian")
    drawn = Path(answer["picture"])
    assert drawn == tmp_path / "drawn" / "street.png" and drawn.read_bytes().startswith(b"\x89PNG")


def test_pictures_of_any_size_and_form_are_answered_alike(small_detector, picture):
    from kzoo.data import decode

    pixels = decode.image(picture.read_bytes(), None, 3, "stretch")
    answers = kzoo.predict(small_detector, [picture, picture.read_bytes(), pixels], score=0.05)
    assert answers[0]["objects"] == answers[1]["objects"] == answers[2]["objects"]
    (large,) = kzoo.predict(small_detector, [np.repeat(np.repeat(pixels, 2, 0), 2, 1)], score=0.05, limit=1)
    assert (large["height"], large["width"]) == (240, 800)


@pytest.mark.parametrize(
    ("options", "message"),
    [
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
    from kzoo.export import _save_signatures
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
    _save_signatures(signatures, tmp_path / "saved")
    served = tf.saved_model.load(str(tmp_path / "saved"))
    encoded = [picture.read_bytes(), picture.read_bytes()]
    found = {k: v.numpy() for k, v in served.signatures["serve_bytes"](encoded=tf.constant(encoded)).items()}
    expected = answers.answer(model, encoded, score=0.05)
    count = found["count"][1]
    assert count == len(expected[1]["objects"]) > 0
    np.testing.assert_allclose(found["boxes"][1, :count], [o["box"] for o in expected[1]["objects"]], atol=0.02)
    assert [s.decode() for s in found["labels"][1, :count]] == [o["label"] for o in expected[1]["objects"]]
    assert not found["boxes"][1, count:].any() and not any(found["labels"][1, count:])


def test_export_verifies_all_three_doors(small_detector, tmp_path):
    report = kzoo.export(small_detector, out=tmp_path / "export", formats=("h5", "saved_model"))
    assert report.ok
    assert set(report.formats["saved_model"]["signatures"]) == {"serving_default", "serve_images", "serve_bytes"}
