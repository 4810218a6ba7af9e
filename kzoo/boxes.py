"""Rectangles in NumPy: overlap, default boxes of single-shot detectors, offsets to them.

Boxes are (..., 4) arrays, either as corners (x1, y1, x2, y2) or as centres (cx, cy, width, height); the unit is the
caller's, pixels or shares of the image, except where said. The module imports nothing of the zoo, so that models, data
and tasks share it.
"""

import math
from collections.abc import Sequence

import numpy as np

# Offsets are divided by these, so that all four have about the same spread (Liu et al. 2016, code of the authors).
VARIANCES = (0.1, 0.1, 0.2, 0.2)
# A decoded box is at most 62.5 times its default box: exp of more would overflow in an untrained network.
LARGEST_LOG_SIZE = math.log(1000 / 16)


def to_centres(corners: np.ndarray) -> np.ndarray:
    """Corners (..., 4) as centres."""
    low, high = corners[..., :2], corners[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], -1)


def to_corners(centres: np.ndarray) -> np.ndarray:
    """Centres (..., 4) as corners."""
    middle, half = centres[..., :2], centres[..., 2:] / 2
    return np.concatenate([middle - half, middle + half], -1)


def area(corners: np.ndarray) -> np.ndarray:
    """Areas (...); 0 for boxes that are turned inside out."""
    return np.prod(np.maximum(corners[..., 2:] - corners[..., :2], 0), -1)


def intersection(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Common areas (n, m) of corners (n, 4) and (m, 4)."""
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    return np.prod(np.maximum(high - low, 0), -1)


def iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union (n, m) of corners (n, 4) and (m, 4); 0 where both are empty."""
    common = intersection(first, second)
    union = area(first)[:, None] + area(second)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def default_boxes(
    image_size: tuple[int, int],
    maps: Sequence[tuple[int, int]],
    steps: Sequence[tuple[float, float]],
    scales: Sequence[float],
    aspect_ratios: Sequence[Sequence[float]],
) -> np.ndarray:
    """Default boxes of all cells of all feature maps (Liu et al. 2016, arXiv 1512.02325, section 2.2).

    A cell of map k has two squares of the sides ``scales[k]`` and ``sqrt(scales[k] * scales[k + 1])``, then for each
    ratio r a wide and a tall box of the area of the first. Sides are shares of the image's short side in pixels, so
    that squares are square however long the image is; they are cut to the image's.

    Args:
        image_size: Height and width in pixels.
        maps: Rows and columns of each map.
        steps: Pixels between two cells of each map, down and across.
        scales: One more than there are maps.
        aspect_ratios: For each map the ratios above 1.

    Returns:
        float32 (boxes, 4), centres in shares of the image's width and height; map by map, row by row, cell by cell.
    """
    (height, width), short, found = image_size, min(image_size), []
    for (rows, columns), (down, across), scale, following, ratios in zip(
        maps, steps, scales[:-1], scales[1:], aspect_ratios, strict=True
    ):
        sizes = [(scale, scale), (math.sqrt(scale * following),) * 2]
        for ratio in ratios:
            root = math.sqrt(ratio)
            sizes += [(scale * root, scale / root), (scale / root, scale * root)]
        sides = np.minimum(np.array(sizes) * short / [width, height], 1.0)
        y = (np.arange(rows) + 0.5) * down / height
        x = (np.arange(columns) + 0.5) * across / width
        boxes = np.empty((rows, columns, len(sizes), 4))
        boxes[..., 0], boxes[..., 1] = x[None, :, None], y[:, None, None]
        boxes[..., 2:] = sides
        found.append(boxes.reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


def encode(corners: np.ndarray, defaults: np.ndarray) -> np.ndarray:
    """Boxes as offsets to default boxes (section 2.2 of the paper, eq. 2).

    Args:
        corners: (..., 4), of positive size.
        defaults: Centres of the same shape.
    """
    centres = to_centres(corners)
    shift = (centres[..., :2] - defaults[..., :2]) / defaults[..., 2:]
    growth = np.log(centres[..., 2:] / defaults[..., 2:])
    return np.concatenate([shift, growth], -1) / np.asarray(VARIANCES, corners.dtype)


def decode(offsets: np.ndarray, defaults: np.ndarray) -> np.ndarray:
    """Offsets (..., 4) to default boxes, centres (..., 4), as corners."""
    scaled = offsets * np.asarray(VARIANCES, offsets.dtype)
    middle = scaled[..., :2] * defaults[..., 2:] + defaults[..., :2]
    size = np.exp(np.minimum(scaled[..., 2:], LARGEST_LOG_SIZE)) * defaults[..., 2:]
    return to_corners(np.concatenate([middle, size], -1))
