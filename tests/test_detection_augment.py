"""A bright rectangle that is drawn into a picture must still lie under its box, whatever is done to both."""

from types import SimpleNamespace

import numpy as np
import pytest

from kzoo import boxes
from kzoo.data.detection import augment
from kzoo.data.detection.collection import Part, Pictures, Problems
from kzoo.data.detection.pipeline import Batches
from kzoo.data.detection.truth import truth
from kzoo.data.pipeline import Normalization

NOTHING = {"flip": False, "zoom_out": 1.0, "iou_crop": False, "scale": 0.0, "translate": 0.0, "rotate": 0.0}
NOTHING |= {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
GROUND = np.array([40, 40, 40], np.uint8)


def settings(**some):
    return SimpleNamespace(**{**NOTHING, **some})


def picture(rng, size):
    """A grey picture with one bright rectangle, and the rectangle."""
    height, width = size
    pixels = np.full((height, width, 3), 40, np.uint8)
    x1, y1 = rng.integers(5, width - 90), rng.integers(5, height - 80)
    x2, y2 = x1 + rng.integers(30, 80), y1 + rng.integers(30, 70)
    pixels[y1:y2, x1:x2] = 255
    return pixels, truth([[x1, y1, x2, y2]], ["thing"]).with_labels([0], False)


def bright(pixels):
    """Corners of what is bright, in shares of the picture."""
    rows, columns = np.where(pixels[..., 0] > 140)
    if not len(rows):
        return None
    height, width = pixels.shape[:2]
    return np.array(
        [[columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height]]
    )


@pytest.mark.parametrize("fit", ["stretch", "pad"])
@pytest.mark.parametrize(
    ("some", "least"),
    [
        ({}, 0.9),
        ({"flip": True}, 0.9),
        ({"zoom_out": 3.0}, 0.75),
        ({"iou_crop": True}, 0.9),
        ({"scale": 0.4}, 0.85),
        ({"translate": 0.3}, 0.85),
        ({"rotate": 25.0}, 0.85),
        ({"flip": True, "zoom_out": 2.0, "iou_crop": True, "scale": 0.2, "translate": 0.1, "rotate": 10.0}, 0.75),
    ],
    ids=lambda v: "+".join(v) or "nothing" if isinstance(v, dict) else "",
)
def test_the_rectangle_lies_under_its_box(some, least, fit):
    checked, overlaps, lost = 0, [], 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        size = tuple(int(n) for n in rng.integers((120, 200), (200, 330)))
        pixels, thing = picture(rng, size)
        view = augment.draw(augment.whole(size, (96, 128), fit), thing, settings(**some), rng)
        shown = augment.resample(pixels, view, (96, 128), GROUND)
        moved = augment.move(thing, view, (96, 128))
        place = bright(shown)
        if not len(moved) or moved.ignored[0]:
            lost += 1
            # What is left of an object that was lost is at most half of it, or nothing.
            assert place is None or boxes.area(place)[0] < 0.5
            continue
        checked += 1
        overlaps.append(boxes.iou(place, moved.boxes.astype(float))[0, 0])
    assert checked > 30 and np.mean(overlaps) > least and np.min(overlaps) > least - 0.25


def test_an_object_whose_centre_is_out_of_sight_is_ignored_and_not_background():
    thing = truth([[0, 0, 40, 40]], ["thing"]).with_labels([0], False)
    view = augment.View((30.0, 0.0, 130.0, 100.0))
    moved = augment.move(thing, view, (100, 100))
    assert moved.ignored.tolist() == [True]
    np.testing.assert_allclose(moved.boxes, [[0, 0, 0.1, 0.4]], atol=1e-6)
    assert len(augment.move(thing, augment.View((50.0, 0.0, 150.0, 100.0)), (100, 100))) == 0


@pytest.mark.parametrize("fit", ["stretch", "pad"])
def test_training_sees_a_picture_as_evaluation_does(fit):
    pixels = np.random.default_rng(0).integers(0, 256, (120, 200, 3)).astype(np.uint8)
    pictures = Pictures(["one"], np.array([[120, 200]]), lambda place: pixels)
    thing = truth([[0, 0, 40, 40]], ["thing"]).with_labels([0], False)
    part = Part(pictures, np.array([0]), [thing], Problems("stop"))
    how = Normalization((120.0, 110.0, 100.0), (1.0, 1.0, 1.0))
    batches = Batches(part, size=(96, 128), channels=3, fit=fit, batch_size=1, normalization=how)
    trained, (judged, _) = batches.training_batch(0)[0], next(batches.evaluation())
    assert np.abs(trained - judged).mean() < 0.2


def test_padding_keeps_the_aspect_ratio():
    view = augment.whole((100, 400), (96, 128), "pad")
    # 400x100 becomes 128x32 with 32 rows on either side.
    assert view.window == (0.0, -100.0, 400.0, 200.0)


def test_colours_change_as_they_say():
    rng = np.random.default_rng(0)
    values = rng.uniform(60, 190, (64, 8, 8, 3)).astype(np.float32)
    assert augment.colours(values, settings(), rng) is values
    light = augment.colours(values, settings(brightness=0.2), rng) - values
    assert np.ptp(light, (1, 2, 3)).max() < 1e-3 and 0.3 < (np.abs(light).max((1, 2, 3)) > 0).mean() < 0.7
    contrast = augment.colours(values, settings(contrast=0.5), rng)
    np.testing.assert_allclose(contrast.mean((1, 2, 3)), values.mean((1, 2, 3)), rtol=1e-3)
    grey = values.mean(-1, keepdims=True) + np.zeros(3, np.float32)
    for changed in (settings(saturation=0.9), settings(hue=0.5)):
        np.testing.assert_allclose(augment.colours(grey, changed, rng), grey, rtol=2e-2)
    hued = augment.colours(values, settings(hue=0.5), rng)
    luma = [0.299, 0.587, 0.114]
    inside = ((hued > 1) & (hued < 254)).all(-1)
    np.testing.assert_allclose((hued @ luma)[inside], (values @ luma)[inside], rtol=1e-2)
