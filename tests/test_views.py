import numpy as np
import pytest

from kzoo.tasks.classification import views


@pytest.fixture
def images():
    return np.random.default_rng(0).normal(size=(2, 5, 6, 1)).astype("float32")


def corners(images):
    """Logits by which each view can be told: the upper left pixel, and the one to its right."""
    return images[:, 0, :2, 0]


def test_mirror_averages_two_views(images):
    found = views.average(corners, images, "mirror", corners(images))
    np.testing.assert_allclose(found, (images[:, 0, :2, 0] + images[:, 0, [-1, -2], 0]) / 2)


def test_mirror_translate_gives_half_its_weight_to_the_shifted_views(images):
    found = views.average(corners, images, "mirror_translate", corners(images))
    still = (images[:, 0, [0, 1], 0] + images[:, 0, [5, 4], 0]) / 2
    padded = np.pad(images[..., 0], ((0, 0), (1, 1), (1, 1)), mode="reflect")
    up, down = padded[:, :5, :6], padded[:, 2:, 2:]
    moved = sum(v[:, 0, places] for v in (up, down) for places in ([0, 1], [5, 4])) / 4
    # What comes in from beyond the corner is the reflection of pixel (1, 1).
    assert np.array_equal(up[:, 0, 0], images[:, 1, 1, 0]) and np.array_equal(down[:, 0, 0], images[:, 1, 1, 0])
    np.testing.assert_allclose(found, (still + moved) / 2, rtol=1e-6)
