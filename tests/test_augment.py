from types import SimpleNamespace

import numpy as np
import pytest

from kzoo.data import augment

NONE = dict(
    flip="none",
    translate=0,
    rotate=0.0,
    zoom=0.0,
    shear=0.0,
    crop=0.0,
    brightness=0.0,
    contrast=0.0,
    cutout=0,
    mixup=0.0,
    cutmix=0.0,
    randaugment=None,
    fill="reflect",
)


def settings(**given):
    return SimpleNamespace(**{**NONE, **given})


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)


def generator():
    return np.random.default_rng(5)


def test_nothing_asked_for_changes_nothing(pixels):
    assert np.array_equal(augment.geometric(pixels, settings(), generator()), pixels)


@pytest.mark.parametrize(
    ("flip", "axes"), [("horizontal", {(2,)}), ("vertical", {(1,)}), ("both", {(1,), (2,), (1, 2)})]
)
def test_flips_are_flips_of_about_half_the_images(pixels, flip, axes):
    changed = augment.geometric(pixels, settings(flip=flip), generator())
    seen = set()
    for before, after in zip(pixels, changed, strict=True):
        match = [a for a in [(), (1,), (2,), (1, 2)] if np.array_equal(np.flip(before, [i - 1 for i in a]), after)]
        assert match
        seen.add(match[0])
    assert seen == axes | {()}
    assert np.array_equal(pixels, np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)), (
        "input kept"
    )


@pytest.mark.parametrize("fill", ["reflect", "constant"])
def test_translation_shows_a_window_of_the_padded_image(pixels, fill):
    changed = augment.geometric(pixels, settings(translate=2, fill=fill), generator())
    mode = {"reflect": "symmetric", "constant": "constant"}[fill]
    offsets = set()
    for before, after in zip(pixels, changed, strict=True):
        padded = np.pad(before, ((2, 2), (2, 2), (0, 0)), mode=mode)
        found = [(y, x) for y in range(5) for x in range(5) if np.array_equal(padded[y : y + 8, x : x + 8], after)]
        assert found
        offsets.add(found[0])
    assert len(offsets) > 15


def test_a_quarter_turn_is_numpys(pixels):
    matrices = augment._matrices(pixels.shape, settings(rotate=1e-9), generator())
    np.testing.assert_allclose(matrices, np.tile([1, 0, 0, 0, 1, 0, 0, 0], (64, 1)), atol=1e-6)

    class Quarter:
        def uniform(self, low, high, size):
            return np.full(size, high) if high == 90 else np.zeros(size)

    turned = augment._transform(pixels, augment._matrices(pixels.shape, settings(rotate=90), Quarter()), "constant")
    assert np.array_equal(turned, np.rot90(pixels, 1, (1, 2)))


def test_zoom_about_the_centre_keeps_a_uniform_image_and_moves_edges():
    image = np.zeros((1, 9, 9, 1), np.uint8)
    image[:, 3:6, 3:6] = 255

    class Most:
        def uniform(self, low, high, size):
            return np.full(size, high)

    bigger = augment._transform(image, augment._matrices(image.shape, settings(zoom=0.5), Most()), "constant")
    assert bigger.sum() > 1.8 * image.sum() and bigger[0, 4, 4, 0] == 255
    np.testing.assert_allclose(bigger.astype(int), bigger[:, ::-1, ::-1].astype(int), atol=1)


def test_photometric_changes_are_those_of_the_formula(pixels):
    values = np.full((3, 2, 2, 1), 100, np.float32)
    values[:, 0] = 50
    changed = augment.photometric(values.copy(), settings(contrast=0.5), generator())
    factor = generator().uniform(0.5, 1.5, (3, 1, 1, 1))
    np.testing.assert_allclose(changed, 75 + (values - 75) * factor, rtol=1e-5)
    changed = augment.photometric(values.copy(), settings(brightness=0.9), generator())
    np.testing.assert_allclose(
        changed, np.clip(values + generator().uniform(-229.5, 229.5, (3, 1, 1, 1)), 0, 255), rtol=1e-5
    )


@pytest.mark.parametrize("side", [3, 4])
def test_cutout_blanks_a_square_that_may_reach_over_the_border(side):
    values = np.ones((400, 16, 16, 2), np.float32)
    augment.cutout(values, settings(cutout=side), generator())
    blank = (values == 0).all(-1)
    rows, columns = blank.any(2).sum(1), blank.any(1).sum(1)
    assert rows.max() == columns.max() == side and rows.min() < side
    assert np.array_equal(blank.sum((1, 2)), rows * columns), "a rectangle without holes"


def test_the_same_generator_gives_the_same_images(pixels):
    how = settings(flip="horizontal", rotate=20.0, zoom=0.2, translate=1, crop=0.2, shear=0.1)
    first, second = (augment.geometric(pixels, how, generator()) for _ in range(2))
    assert np.array_equal(first, second) and not np.array_equal(first, pixels) and first.dtype == np.uint8


def one_hot(count, classes=5):
    return np.eye(classes, dtype=np.float32)[np.arange(count) % classes]


def test_mixup_adds_images_labels_and_weights_up_in_the_same_share():
    values = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1) * np.ones((1, 4, 4, 1), np.float32)
    numbers = np.eye(10, dtype=np.float32)
    mixed, labels, weights = augment.mix(
        values, numbers, np.arange(10, dtype=np.float32), settings(mixup=1.0), generator()
    )
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(mixed[:, 0, 0, 0], labels @ np.arange(10), rtol=1e-5)
    np.testing.assert_allclose(weights, labels @ np.arange(10), rtol=1e-5)
    assert len(np.unique(labels.round(6))) > 2, "neither image alone"


def test_cutmix_pastes_a_rectangle_and_weighs_by_its_area():
    values = np.arange(10, dtype=np.float32).reshape(10, 1, 1, 1) * np.ones((1, 8, 6, 1), np.float32)
    seen = set()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        mixed, labels, _ = augment.mix(values, np.eye(10, dtype=np.float32), np.ones(10), settings(cutmix=1.0), rng)
        np.testing.assert_allclose(labels @ np.arange(10), mixed.mean((1, 2, 3)), rtol=1e-5, atol=1e-5)
        image = mixed[3, ..., 0]
        pasted = image != 3
        rows, columns = pasted.any(1), pasted.any(0)
        assert pasted.sum() == rows.sum() * columns.sum() and len(np.unique(image)) <= 2
        seen.add(int(pasted.sum()))
    assert len(seen) > 8 and (values[:, 0, 0, 0] == np.arange(10)).all(), "the given images stay as they are"


def test_of_mixup_and_cutmix_each_batch_takes_one():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4, 6, 6, 1)).astype(np.float32)
    both = settings(mixup=0.5, cutmix=0.5)
    drawn = [augment.mix(values, one_hot(4), np.ones(4), both, np.random.default_rng(n))[0] for n in range(40)]
    exact = [np.isin(mixed, values).all() for mixed in drawn]
    assert 5 < sum(exact) < 35
