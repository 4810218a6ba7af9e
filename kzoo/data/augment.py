"""Random changes of a whole batch of images at once.

Per-example augmentation costs about ten times the processor time of the same changes made on a batch, so everything
here is vectorised: shifts and flips copy rows in NumPy, and whatever turns or scales goes through one projective
transform for the batch.
"""

from typing import Protocol

import numpy as np

from kzoo.data.randaugment import Settings as RandAugmentSettings
from kzoo.data.randaugment import randaugment


class Settings(Protocol):
    """What the functions of this module read; see the recipe's ``data.augment`` for the units."""

    flip: str
    translate: int
    rotate: float
    zoom: float
    shear: float
    crop: float
    brightness: float
    contrast: float
    cutout: int
    mixup: float
    cutmix: float
    randaugment: RandAugmentSettings | None
    fill: str


def geometric(pixels: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Flip, shift, turn, scale, slant and crop.

    Args:
        pixels: uint8, (batch, height, width, channels).
        settings: Magnitudes.
        rng: Source of the draws; the same state gives the same images.

    Returns:
        uint8 of the same shape.
    """
    if settings.rotate or settings.zoom or settings.shear or settings.crop:
        return _transform(pixels, _matrices(pixels.shape, settings, rng), settings.fill)
    if settings.translate:
        pixels = _shift(pixels, settings.translate, settings.fill, rng)
    for axis, directions in ((2, ("horizontal", "both")), (1, ("vertical", "both"))):
        if settings.flip in directions:
            pixels = mirror(pixels, rng.random(len(pixels)) < 0.5, axis)
    return pixels


def varied(pixels: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """RandAugment.

    Args:
        pixels: uint8, (batch, height, width, channels).
    """
    if settings.randaugment is None:
        return pixels
    centre = np.array([(pixels.shape[2] - 1) / 2, (pixels.shape[1] - 1) / 2])

    def transform(chosen, matrices):
        linear, offset = matrices[:, :, :2], matrices[:, :, 2]
        return _transform(chosen, _projective(linear, centre + offset - linear @ centre), settings.fill)

    return randaugment(pixels, settings.randaugment, rng, transform)


def mirror(pixels: np.ndarray, chosen: np.ndarray, axis: int = 2) -> np.ndarray:
    """A copy in which the chosen images are flipped.

    Args:
        pixels: (batch, height, width, channels).
        chosen: bool, (batch,).
        axis: 2 to flip left and right, 1 to flip up and down.
    """
    pixels = np.array(pixels)
    pixels[chosen] = np.flip(pixels[chosen], axis)
    return pixels


def photometric(values: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Change brightness and contrast in place, image by image.

    Args:
        values: float32, (batch, height, width, channels), in pixel units from 0 to 255.
    """
    each = (len(values), 1, 1, 1)
    if settings.contrast:
        mean = values.mean((1, 2, 3), keepdims=True)
        factor = rng.uniform(1 - settings.contrast, 1 + settings.contrast, each).astype(np.float32)
        values -= mean
        values *= factor
        values += mean
    if settings.brightness:
        values += rng.uniform(-255 * settings.brightness, 255 * settings.brightness, each).astype(np.float32)
    if settings.contrast or settings.brightness:
        np.clip(values, 0, 255, out=values)
    return values


def cutout(values: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Set a square at a random place to zero, in place; it may reach over the border (DeVries and Taylor 2017).

    Args:
        values: float32, (batch, height, width, channels), normalised by "standard", so that zero is the mean.
    """
    if not settings.cutout:
        return values
    count, height, width, _ = values.shape
    side = settings.cutout
    for image, y, x in zip(values, *(rng.integers(0, n, count) - side // 2 for n in (height, width)), strict=True):
        image[max(y, 0) : y + side, max(x, 0) : x + side] = 0
    return values


def mix(
    values: np.ndarray, labels: np.ndarray, weights: np.ndarray, settings: Settings, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mix each image, its label and its weight with those of another of the batch.

    mixup (Zhang et al. 2017, arXiv 1710.09412) adds the images up, CutMix (Yun et al. 2019, arXiv 1905.04899) puts a
    rectangle of one into the other; of both, each batch takes one at random. Shares are drawn from Beta(a, a) with the
    setting as a, once for a batch.

    Args:
        values: float32, (batch, height, width, channels).
        labels: float32, (batch, classes), one-hot.
        weights: float32, (batch,).
    """
    methods = [m for m, strength in ((_add_up, settings.mixup), (_paste, settings.cutmix)) if strength]
    if not methods:
        return values, labels, weights
    method = methods[rng.integers(len(methods))]
    share = rng.beta(*2 * [settings.mixup if method is _add_up else settings.cutmix])
    other = rng.permutation(len(values))
    values, share = method(values, values[other], share, rng)
    share = np.float32(share)
    return values, share * labels + (1 - share) * labels[other], share * weights + (1 - share) * weights[other]


def _add_up(values, others, share, rng):
    return np.float32(share) * values + np.float32(1 - share) * others, share


def _paste(values, others, share, rng):
    """A rectangle of about ``1 - share`` of the area, cut off at the border; gives the share of what stays too."""
    height, width = values.shape[1:3]
    y, x = rng.integers(height), rng.integers(width)
    half = np.sqrt(1 - share) / 2
    top, bottom = (int(np.clip(y + s * half * height, 0, height)) for s in (-1, 1))
    left, right = (int(np.clip(x + s * half * width, 0, width)) for s in (-1, 1))
    values = np.array(values)
    values[:, top:bottom, left:right] = others[:, top:bottom, left:right]
    return values, 1 - (bottom - top) * (right - left) / (height * width)


def _shift(pixels: np.ndarray, most: int, fill: str, rng: np.random.Generator) -> np.ndarray:
    """Shift each image by whole pixels: pad all, then view a window of each."""
    count, height, width, channels = pixels.shape
    border = ((0, 0), (most, most), (most, most), (0, 0))
    # TensorFlow's "reflect" repeats the border's pixels, which NumPy calls symmetric: one word, one meaning here.
    padded = np.pad(pixels, border, mode="symmetric" if fill == "reflect" else "constant")
    # A row's pixels and channels lie side by side, so that a window is copied in runs of whole rows.
    image, row, pixel, value = padded.strides
    places = 2 * most + 1
    windows = np.lib.stride_tricks.as_strided(
        padded, (count, places, places, height, width * channels), (image, row, pixel, row, value), writeable=False
    )
    y, x = rng.integers(0, places, (2, count))
    return windows[np.arange(count), y, x].reshape(pixels.shape)


def _matrices(shape: tuple, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """For each image the 3x3 matrix from an output pixel's (x, y, 1) to the input pixel that it shows."""
    count, height, width, _ = shape

    def draw(most: float) -> np.ndarray:
        return rng.uniform(-most, most, count)

    angle, slant, scale = (
        np.deg2rad(draw(settings.rotate)),
        draw(settings.shear),
        1 / (1 + draw(settings.zoom)),
    )
    cut = 1 - rng.uniform(0, settings.crop, count) if settings.crop else np.ones(count)
    # A cropped window lies anywhere inside the image.
    room = np.stack([(1 - cut) * width / 2, (1 - cut) * height / 2])
    offset = rng.uniform(-1, 1, (2, count)) * room + rng.uniform(-1, 1, (2, count)) * settings.translate
    mirror = np.ones((2, count))
    for row, directions in ((0, ("horizontal", "both")), (1, ("vertical", "both"))):
        if settings.flip in directions:
            mirror[row] = np.where(rng.random(count) < 0.5, -1, 1)
    linear = np.empty((count, 2, 2))
    linear[:, 0, 0], linear[:, 0, 1] = np.cos(angle), np.cos(angle) * slant - np.sin(angle)
    linear[:, 1, 0], linear[:, 1, 1] = np.sin(angle), np.sin(angle) * slant + np.cos(angle)
    linear *= (scale * cut)[:, None, None] * mirror.T[:, None, :]
    centre = np.array([(width - 1) / 2, (height - 1) / 2])
    return _projective(linear, centre + offset.T - linear @ centre)


def _projective(linear: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Affine maps as TensorFlow's eight numbers: (count, 2, 2) and (count, 2) to (count, 8)."""
    matrices = np.zeros((len(linear), 8), np.float32)
    matrices[:, 0:2], matrices[:, 2] = linear[:, 0], shift[:, 0]
    matrices[:, 3:5], matrices[:, 5] = linear[:, 1], shift[:, 1]
    return matrices


def _transform(pixels: np.ndarray, matrices: np.ndarray, fill: str) -> np.ndarray:
    import tensorflow as tf

    # Never on a GPU: the batch would travel there and back, and a resumed training could meet another kernel.
    with tf.device("cpu:0"):
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=pixels,
            transforms=matrices,
            output_shape=pixels.shape[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="REFLECT" if fill == "reflect" else "CONSTANT",
        ).numpy()
