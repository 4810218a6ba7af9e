"""Random changes of a picture that move its boxes along.

All that moves a picture along its axes is one window: the part of the plane that the network will see, in the
picture's pixels. Zooming out makes the window larger than the picture, cropping smaller; then the picture is resampled
once, with antialiasing. Turning follows on the small result. Colours are changed for a whole batch by one matrix each.
"""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from kzoo import boxes as rectangles
from kzoo.data.detection.truth import Truth

# Of the crops that SSD draws: least overlap with some object; 0 asks for none; None keeps the whole (section 2.2).
_OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None)
_TRIALS = 50
_LEAST_SIDE = 0.3
_LEAST_PIXELS = 1.0  # of what is left of an object


class Settings(Protocol):
    """What the functions of this module read; see the recipe's ``data.augment`` for the units."""

    flip: bool
    zoom_out: float
    iou_crop: bool
    scale: float
    translate: float
    rotate: float
    brightness: float
    contrast: float
    saturation: float
    hue: float


@dataclass(frozen=True)
class View:
    """What the network sees of a picture.

    Attributes:
        window: Corners (x1, y1, x2, y2) in the picture's pixels; may reach beyond it.
        flip: Whether left and right are exchanged.
        angle: Degrees by which the result is then turned, counter-clockwise.
    """

    window: tuple[float, float, float, float]
    flip: bool = False
    angle: float = 0.0


def whole(size: tuple[int, int], output: tuple[int, int], fit: str) -> View:
    """The view of a picture as it is: ``stretch`` changes the aspect ratio, ``pad`` adds to the shorter side."""
    height, width = size
    if fit == "stretch":
        return View((0.0, 0.0, float(width), float(height)))
    from kzoo.data import decode

    (rows, columns), (above, before) = decode.inside(tuple(int(n) for n in size), output)
    down, across = height / rows, width / columns
    left, top = -before * across, -above * down
    return View((left, top, left + output[1] * across, top + output[0] * down))


def draw(view: View, truth: Truth, settings: Settings, rng: np.random.Generator) -> View:
    """Draw a random view.

    Args:
        view: What would be seen without augmentation.
        truth: The objects, which crops must not all miss.
        settings: Magnitudes.
        rng: Source of the draws.
    """
    window = np.array(view.window)
    if settings.zoom_out > 1 and rng.random() < 0.5:
        window = _zoomed_out(window, rng.uniform(1, settings.zoom_out), rng)
    if settings.iou_crop:
        window = _cropped(window, truth.boxes[~truth.ignored], rng)
    if settings.scale or settings.translate:
        sides = window[2:] - window[:2]
        centre = (window[:2] + window[2:]) / 2 + sides * rng.uniform(-settings.translate, settings.translate, 2)
        half = sides / 2 / (1 + rng.uniform(-settings.scale, settings.scale))
        window = np.concatenate([centre - half, centre + half])
    flip = bool(settings.flip and rng.random() < 0.5)
    angle = float(rng.uniform(-settings.rotate, settings.rotate)) if settings.rotate else 0.0
    return View(tuple(window.tolist()), flip, angle)


def resample(pixels: np.ndarray, view: View, output: tuple[int, int], fill: np.ndarray) -> np.ndarray:
    """The picture as a view shows it.

    Args:
        pixels: uint8 (height, width, channels).
        view: The view.
        output: Height and width of the result.
        fill: uint8 (channels,), what lies beyond the picture.

    Returns:
        uint8 (*output, channels).
    """
    from PIL import Image

    (height, width), (rows, columns) = pixels.shape[:2], output
    x1, y1, x2, y2 = view.window
    result = np.empty((rows, columns, pixels.shape[2]), np.uint8)
    result[:] = fill
    # The whole output pixels that lie inside the picture (but for rounding), and the source box that is exactly theirs.
    step_x, step_y = (x2 - x1) / columns, (y2 - y1) / rows
    left, right = max(0, int(np.ceil(-x1 / step_x - 1e-4))), min(columns, int(np.floor((width - x1) / step_x + 1e-4)))
    top, bottom = max(0, int(np.ceil(-y1 / step_y - 1e-4))), min(rows, int(np.floor((height - y1) / step_y + 1e-4)))
    if right > left and bottom > top:
        source = (x1 + left * step_x, y1 + top * step_y, x1 + right * step_x, y1 + bottom * step_y)
        source = np.clip(source, 0, [width, height, width, height])
        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        small = picture.resize((right - left, bottom - top), Image.Resampling.BILINEAR, tuple(map(float, source)))
        result[top:bottom, left:right] = np.asarray(small).reshape(bottom - top, right - left, -1)
    if view.flip:
        result = result[:, ::-1]
    if view.angle:
        shown = Image.fromarray(np.ascontiguousarray(result[..., 0] if result.shape[2] == 1 else result))
        colour = tuple(int(v) for v in fill)
        turned = shown.rotate(view.angle, Image.Resampling.BILINEAR, fillcolor=colour if len(colour) > 1 else colour[0])
        result = np.asarray(turned).reshape(result.shape)
    return np.ascontiguousarray(result)


def move(truth: Truth, view: View, output: tuple[int, int]) -> Truth:
    """Objects as a view shows them.

    An object whose centre is still seen stays, cut to what is seen; of any other what is left is ignored, since it is
    neither background nor the object.

    Args:
        truth: Objects with boxes in the picture's pixels.
        view: The view.
        output: Height and width of the result in pixels, in which boxes are turned.

    Returns:
        The objects that are seen, with boxes in shares of the result's width and height.
    """
    if not len(truth):
        return truth
    x1, y1, x2, y2 = view.window
    corners = (truth.boxes - [x1, y1, x1, y1]) / [x2 - x1, y2 - y1, x2 - x1, y2 - y1]
    if view.flip:
        corners = np.stack([1 - corners[:, 2], corners[:, 1], 1 - corners[:, 0], corners[:, 3]], -1)
    if view.angle:
        corners = _turned(corners, view.angle, output)
    centres, seen = (corners[:, :2] + corners[:, 2:]) / 2, np.clip(corners, 0, 1)
    left = (seen[:, 2:] - seen[:, :2]) * [output[1], output[0]]
    inside = ((centres > 0) & (centres < 1)).all(1) & (left >= _LEAST_PIXELS).all(1)
    some = (left > 0).all(1)
    moved = replace(truth, boxes=seen.astype(np.float32)).with_labels(truth.labels, ~inside)
    return moved.take(np.flatnonzero(some))


def colours(values: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Change brightness, contrast, saturation and hue, each for half of the pictures (Howard 2013; SSD's section 3.6).

    All four are linear in the colours, so that each picture needs one matrix.

    Args:
        values: float32 (batch, height, width, channels), from 0 to 255.

    Returns:
        float32 of the same shape and range.
    """
    if not (settings.brightness or settings.contrast or settings.saturation or settings.hue):
        return values
    count, channels = len(values), values.shape[-1]
    matrix = np.tile(np.eye(channels), (count, 1, 1))
    if channels == 3:
        matrix = _saturated(_chosen(rng, count, 1 + _spread(rng, count, settings.saturation), 1.0)) @ matrix
        matrix = _hued(_chosen(rng, count, _spread(rng, count, settings.hue), 0.0)) @ matrix
    contrast = _chosen(rng, count, 1 + _spread(rng, count, settings.contrast), 1.0)
    shift = _chosen(rng, count, 255 * _spread(rng, count, settings.brightness), 0.0)
    grey = values.mean((1, 2)).astype(np.float64)
    matrix = matrix * contrast[:, None, None]
    offset = shift[:, None] + grey.mean(1, keepdims=True) * (1 - contrast[:, None])
    flat = values.reshape(count, -1, channels) @ matrix.transpose(0, 2, 1).astype(np.float32)
    flat += offset[:, None].astype(np.float32)
    return np.clip(flat, 0, 255, out=flat).reshape(values.shape)


def _zoomed_out(window: np.ndarray, ratio: float, rng) -> np.ndarray:
    """A window `ratio` times as wide and high, somewhere around the old one."""
    sides = window[2:] - window[:2]
    low = window[:2] - rng.uniform(0, 1, 2) * sides * (ratio - 1)
    return np.concatenate([low, low + sides * ratio])


def _cropped(window: np.ndarray, objects: np.ndarray, rng) -> np.ndarray:
    """A part of the window that overlaps some object enough and holds the centre of one."""
    least = _OVERLAPS[rng.integers(len(_OVERLAPS))]
    if least is None or not len(objects):
        return window
    sides, centres = window[2:] - window[:2], (objects[:, :2] + objects[:, 2:]) / 2
    shares = rng.uniform(_LEAST_SIDE, 1, (_TRIALS, 2))
    low = window[:2] + rng.uniform(0, 1, (_TRIALS, 2)) * (1 - shares) * sides
    crops = np.concatenate([low, low + shares * sides], 1)
    inside = ((centres[None] > crops[:, None, :2]) & (centres[None] < crops[:, None, 2:])).all(-1)
    overlap = np.where(inside, rectangles.iou(crops, objects), -1).max(1)
    ratio = shares[:, 0] / shares[:, 1]
    good = np.flatnonzero((ratio >= 0.5) & (ratio <= 2) & inside.any(1) & (overlap >= least))
    return crops[good[0]] if len(good) else window


def _turned(corners: np.ndarray, angle: float, output: tuple[int, int]) -> np.ndarray:
    """The upright boxes around boxes that were turned about the middle, counter-clockwise as one sees them."""
    rows, columns = output
    x = (corners[:, [0, 2, 2, 0]] - 0.5) * columns
    y = (corners[:, [1, 1, 3, 3]] - 0.5) * rows
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    new_x, new_y = (x * cosine + y * sine) / columns + 0.5, (y * cosine - x * sine) / rows + 0.5
    return np.stack([new_x.min(1), new_y.min(1), new_x.max(1), new_y.max(1)], -1)


def _spread(rng, count: int, most: float) -> np.ndarray:
    return rng.uniform(-most, most, count)


def _chosen(rng, count: int, values: np.ndarray, otherwise: float) -> np.ndarray:
    return np.where(rng.random(count) < 0.5, values, otherwise)


_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def _saturated(factors: np.ndarray) -> np.ndarray:
    """Matrices (count, 3, 3) that move colours from grey or towards it."""
    grey = np.tile(_LUMA, (3, 1))
    return grey + factors[:, None, None] * (np.eye(3) - grey)


def _hued(shares: np.ndarray) -> np.ndarray:
    """Matrices (count, 3, 3) that turn the hue by a share of the circle, in the YIQ colours of NTSC."""
    angle = 2 * np.pi * shares
    turn = np.tile(np.eye(3), (len(shares), 1, 1))
    turn[:, 1, 1] = turn[:, 2, 2] = np.cos(angle)
    turn[:, 1, 2], turn[:, 2, 1] = -np.sin(angle), np.sin(angle)
    return np.linalg.inv(_TO_YIQ) @ turn @ _TO_YIQ
