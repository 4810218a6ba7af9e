"""RandAugment (Cubuk et al. 2019, arXiv 1909.13719): for each image a few random operations of one common strength.

Operations and their ranges are those of torchvision's `RandAugment`; those on colours compute what Pillow computes.
Each works on all images that drew it at once.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np

# Strengths go from 0 to this.
STRONGEST = 30


class Settings(Protocol):
    """What `randaugment` reads."""

    operations: int
    magnitude: float


def randaugment(
    pixels: np.ndarray,
    settings: Settings,
    rng: np.random.Generator,
    transform: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Apply random operations.

    Args:
        pixels: uint8, (batch, height, width, channels).
        settings: Number of operations for each image and their strength, from 0 to 30.
        rng: Source of the draws.
        transform: Resamples images by their 2x3 matrices from output to input coordinates around the image's centre.

    Returns:
        uint8 of the same shape.
    """
    pixels, share = np.array(pixels), settings.magnitude / STRONGEST
    height, width = pixels.shape[1:3]
    for _ in range(settings.operations):
        drawn = rng.integers(0, 1 + len(GEOMETRIC) + len(COLOUR), len(pixels))
        signs = rng.choice([-1.0, 1.0], len(pixels))
        # The first operation is the identity; all that move pixels are one resampling.
        moved = np.flatnonzero((drawn > 0) & (drawn <= len(GEOMETRIC)))
        if len(moved):
            amounts = share * signs[moved]
            matrices = [GEOMETRIC[drawn[i] - 1](a, height, width) for i, a in zip(moved, amounts, strict=True)]
            pixels[moved] = transform(pixels[moved], np.array(matrices))
        for number, operation in enumerate(COLOUR, start=1 + len(GEOMETRIC)):
            chosen = np.flatnonzero(drawn == number)
            if len(chosen):
                pixels[chosen] = operation(pixels[chosen], share, signs[chosen])
    return pixels


def _shear_x(amount, height, width):
    return [[1, 0.3 * amount, 0], [0, 1, 0]]


def _shear_y(amount, height, width):
    return [[1, 0, 0], [0.3 * amount, 1, 0]]


def _translate_x(amount, height, width):
    return [[1, 0, 150 / 331 * width * amount], [0, 1, 0]]


def _translate_y(amount, height, width):
    return [[1, 0, 0], [0, 1, 150 / 331 * height * amount]]


def _rotate(amount, height, width):
    angle = np.deg2rad(30 * amount)
    return [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0]]


def brightness(pixels, share, signs):
    """Towards black, or away from it."""
    return _blend(np.zeros_like(pixels), pixels, 1 + 0.9 * share * signs)


def colour(pixels, share, signs):
    """Towards grey, or away from it."""
    return _blend(_grey(pixels), pixels, 1 + 0.9 * share * signs)


def contrast(pixels, share, signs):
    """Towards the mean grey, or away from it."""
    mean = np.floor(_grey(pixels)[..., :1].mean((1, 2), keepdims=True) + 0.5)
    return _blend(mean, pixels, 1 + 0.9 * share * signs)


def sharpness(pixels, share, signs):
    """Towards a smoothed image, or away from it."""
    values, smooth = pixels.astype(np.float32), pixels.astype(np.float32)
    height, width = pixels.shape[1:3]
    if height > 2 and width > 2:
        around = sum(values[:, y : height - 2 + y, x : width - 2 + x] for y in range(3) for x in range(3))
        smooth[:, 1:-1, 1:-1] = np.floor((around + 4 * values[:, 1:-1, 1:-1]) / 13 + 0.5)
    return _blend(smooth, pixels, 1 + 0.9 * share * signs)


def posterize(pixels, share, signs):
    """Keep the upper bits, eight to four."""
    return pixels & np.uint8(256 - 2 ** round(4 * share))


def solarize(pixels, share, signs):
    """Invert what is bright."""
    return np.where(pixels >= 255 * (1 - share), 255 - pixels, pixels)


def autocontrast(pixels, share, signs):
    """Stretch each channel to the whole range."""
    low, high = (f(pixels, (1, 2), keepdims=True).astype(np.float64) for f in (np.min, np.max))
    scale = 255 / np.maximum(high - low, 1)
    return np.where(high > low, np.clip(pixels * scale - low * scale, 0, 255), pixels).astype(np.uint8)


def equalize(pixels, share, signs):
    """Make each channel's histogram flat."""
    count, height, width, channels = pixels.shape
    rows = np.arange(count * channels)[:, None]
    flat = pixels.transpose(0, 3, 1, 2).reshape(len(rows), -1)
    histogram = np.bincount((rows * 256 + flat).ravel(), minlength=256 * len(rows)).reshape(-1, 256)
    last = histogram[rows[:, 0], 255 - (histogram[:, ::-1] > 0).argmax(1)]
    step = (height * width - last) // 255
    below = np.cumsum(histogram, 1) - histogram
    table = np.minimum((below + step[:, None] // 2) // np.maximum(step, 1)[:, None], 255)
    table = np.where(step[:, None] > 0, table, np.arange(256)).astype(np.uint8)
    return table[rows, flat].reshape(count, channels, height, width).transpose(0, 2, 3, 1)


GEOMETRIC = (_shear_x, _shear_y, _translate_x, _translate_y, _rotate)
COLOUR = (brightness, colour, contrast, sharpness, posterize, solarize, autocontrast, equalize)


def _grey(pixels: np.ndarray) -> np.ndarray:
    """Luma by ITU-R 601-2 in 16-bit fixed point, in as many channels as the images have."""
    if pixels.shape[-1] == 1:
        return pixels
    luma = pixels.astype(np.int64) @ np.array([19595, 38470, 7471])
    return np.broadcast_to((luma[..., None] + 0x8000) >> 16, pixels.shape)


def _blend(towards: np.ndarray, pixels: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """``towards + factor * (pixels - towards)``, cut off to uint8."""
    factor = factor.astype(np.float32).reshape(-1, 1, 1, 1)
    start = towards.astype(np.float32)
    return np.clip(start + factor * (pixels - start), 0, 255).astype(np.uint8)
