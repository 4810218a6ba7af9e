"""Operations against Pillow's, which torchvision's RandAugment uses."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from kzoo.data import augment, randaugment
from tests.test_augment import settings


@pytest.fixture(params=[3, 1], ids=["colour", "grey"])
def pixels(request):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(6, 17, 13, request.param)).cumsum(1).cumsum(2)
    return np.clip(120 + 9 * noise, 0, 255).astype(np.uint8)


def pillow(pixels, operation):
    shown = pixels if pixels.shape[-1] == 3 else pixels[..., 0]
    done = np.stack([np.asarray(operation(Image.fromarray(p))) for p in shown])
    return done.reshape(pixels.shape)


@pytest.mark.parametrize("sign", [-1.0, 1.0])
@pytest.mark.parametrize(
    ("operation", "enhancer"),
    [
        (randaugment.brightness, ImageEnhance.Brightness),
        (randaugment.colour, ImageEnhance.Color),
        (randaugment.contrast, ImageEnhance.Contrast),
        (randaugment.sharpness, ImageEnhance.Sharpness),
    ],
)
def test_enhancements_are_pillows(pixels, operation, enhancer, sign):
    found = operation(pixels, 0.6, np.full(len(pixels), sign))
    expected = pillow(pixels, lambda image: enhancer(image).enhance(1 + 0.9 * 0.6 * sign))
    # Pillow multiplies in another precision, so that a value on the edge may fall to either side.
    assert np.abs(found.astype(int) - expected).max() <= 1 and (found != expected).mean() < 0.01


@pytest.mark.parametrize(
    ("operation", "reference"),
    [
        (randaugment.posterize, lambda image: ImageOps.posterize(image, 6)),
        (randaugment.solarize, lambda image: ImageOps.solarize(image, 127.5)),
        (randaugment.autocontrast, ImageOps.autocontrast),
        (randaugment.equalize, ImageOps.equalize),
    ],
)
def test_tables_are_pillows(pixels, operation, reference):
    assert np.array_equal(operation(pixels, 0.5, np.ones(len(pixels))), pillow(pixels, reference))


@pytest.mark.parametrize("operation", [randaugment.autocontrast, randaugment.equalize])
def test_an_even_image_stays_as_it_is(operation):
    even = np.full((2, 8, 8, 3), 77, np.uint8)
    assert np.array_equal(operation(even, 1.0, np.ones(2)), even)


def test_rotation_and_shift_are_those_of_their_matrices():
    height, width = 20, 30
    assert randaugment._translate_x(0.5, height, width)[0][2] == pytest.approx(150 / 331 * 15)
    quarter = np.array(randaugment._rotate(1.0, height, width))
    np.testing.assert_allclose(quarter[:, :2] @ quarter[:, :2].T, np.eye(2), atol=1e-9)
    assert np.rad2deg(np.arccos(quarter[0, 0])) == pytest.approx(30)


def test_images_draw_their_own_operations_and_magnitude_zero_spares_geometry(pixels):
    strong = settings(randaugment=SimpleNamespace(operations=2, magnitude=20.0))
    many = np.repeat(pixels[:1], 64, 0)
    found = augment.varied(many, strong, np.random.default_rng(0))
    assert found.dtype == np.uint8 and len(np.unique(found, axis=0)) > 20
    assert np.array_equal(found, augment.varied(many, strong, np.random.default_rng(0)))
    assert (many == pixels[0]).all(), "the given images stay as they are"
    still = augment.varied(
        many, settings(randaugment=SimpleNamespace(operations=1, magnitude=0.0)), np.random.default_rng(0)
    )
    same = (still == many).all((1, 2, 3))
    # Only equalisation, contrast stretching and inversion of pure white change an image at strength zero.
    assert same.mean() > 0.6
