"""Drawn road scenes with vehicles and pedestrians, each a pure function of a seed, labelled in KITTI's form.

A pinhole camera stands over a road; things stand on the ground at random depths and hide each other; sun, dusk, night,
haze, shadows and noise change what they look like. Where little of an object is seen it is DontCare, as in KITTI.
"""

from dataclasses import dataclass

import numpy as np

from kzoo.data.detection import sprites
from kzoo.data.detection.truth import Truth

HEIGHT, WIDTH = 120, 400
# Drawn at twice the size and averaged, which smooths the edges.
_FINE = 2
_CAMERA = 1.65  # metres over the road
# Shares of an object that are seen, from which on it counts as fully visible, partly and largely occluded.
_VISIBLE = (0.9, 0.6, 0.4)
_HIDDEN = 0.1  # an object of which less is seen is not there
_LEAST_HEIGHT = 12  # pixels; what is smaller is DontCare
_MOST_TRUNCATED = 0.6


@dataclass(frozen=True)
class _Light:
    """Daylight or what there is of it.

    Attributes:
        gain: Factor of each colour channel.
        haze: Colour of the distance.
        density: How fast things fade into it, per metre.
    """

    gain: np.ndarray
    haze: np.ndarray
    density: float


@dataclass(frozen=True)
class _Placed:
    """A sprite in the picture: its depth in metres, and pixels of the fine canvas."""

    sprite: sprites.Sprite
    depth: float
    left: float
    top: float
    width: float
    height: float


def draw(seed: tuple[int, ...]) -> tuple[np.ndarray, Truth]:
    """Draw a scene.

    Args:
        seed: Whole numbers that fix everything in it.

    Returns:
        uint8 (HEIGHT, WIDTH, 3), and its objects.
    """
    from PIL import Image, ImageDraw

    rng = np.random.default_rng(seed)
    size = (WIDTH * _FINE, HEIGHT * _FINE)
    focal = float(rng.uniform(0.9, 1.3)) * size[1]
    horizon = float(rng.uniform(0.32, 0.46)) * size[1]
    light = _light(rng)
    picture = Image.fromarray(_background(rng, size, horizon, light))
    brush = ImageDraw.Draw(picture)
    _road(rng, brush, size, horizon, light)
    numbers = Image.new("I", size, 0)
    counter = ImageDraw.Draw(numbers)
    placed = _place(rng, size, focal, horizon)
    drawn = [_paint(thing, number, brush, counter, light) for number, thing in enumerate(placed, 1)]
    pixels = np.asarray(picture.reduce(_FINE), np.float32)
    return _expose(rng, pixels), _label(placed, drawn, np.asarray(numbers), size)


def _light(rng) -> _Light:
    mood = rng.choice(["day", "overcast", "dusk", "night"], p=[0.45, 0.25, 0.15, 0.15])
    level = {"day": (0.9, 1.15), "overcast": (0.65, 0.9), "dusk": (0.45, 0.7), "night": (0.22, 0.4)}[mood]
    cast = {
        "day": (1.0, 1.0, 0.95),
        "overcast": (0.97, 1.0, 1.03),
        "dusk": (1.15, 0.95, 0.85),
        "night": (0.9, 0.95, 1.2),
    }
    gain = rng.uniform(*level) * np.array(cast[mood]) * rng.uniform(0.95, 1.05, 3)
    haze = {"day": (200, 215, 235), "overcast": (190, 192, 195), "dusk": (205, 160, 130), "night": (25, 28, 45)}[mood]
    foggy = rng.random() < 0.2
    return _Light(gain, np.array(haze) * rng.uniform(0.85, 1.05), rng.uniform(0.02, 0.035) if foggy else 0.006)


def _background(rng, size, horizon, light) -> np.ndarray:
    """Sky and ground, each a gradient."""
    width, height = size
    rows = np.arange(height)[:, None]
    above = np.clip(rows / horizon, 0, 1)
    top = light.haze * rng.uniform(0.55, 0.95, 3)
    sky = top + (light.haze - top) * above
    grass = np.array(rng.choice([(85, 105, 60), (120, 115, 105), (105, 95, 75)])) * rng.uniform(0.8, 1.2) * light.gain
    below = np.clip((rows - horizon) / (height - horizon), 0, 1)
    ground = light.haze + (grass - light.haze) * np.minimum(1, 0.3 + 2 * below)
    column = np.where(rows < horizon, sky, ground)
    return np.broadcast_to(np.clip(column, 0, 255)[:, None, :], (height, width, 3)).astype(np.uint8).copy()


def _road(rng, brush, size, horizon, light) -> None:
    """Asphalt from the lower edge to the horizon, with kerbs, lanes, and shadows across it."""
    width, height = size
    vanish = width * rng.uniform(0.25, 0.75)
    left, right = (vanish + side * width * rng.uniform(0.45, 0.9) for side in (-1, 1))
    asphalt = _lit(np.array([95, 95, 98]) * rng.uniform(0.75, 1.25), light)
    kerb = _lit(np.array([150, 148, 142]) * rng.uniform(0.8, 1.1), light)
    brush.polygon([(vanish - 8, horizon), (vanish + 8, horizon), (right + 50, height), (left - 50, height)], kerb)
    brush.polygon([(vanish - 5, horizon), (vanish + 5, horizon), (right, height), (left, height)], asphalt)
    paint = _lit(np.array([215, 215, 205]) * rng.uniform(0.7, 1.1), light)
    for lane in range(1, rng.integers(2, 5)):
        foot = left + (right - left) * lane / 3
        edges = np.geomspace(height - horizon, 6, 13)
        for start, stop in zip(edges[:-1:2], edges[1::2], strict=True):
            quad = []
            for distance, side in ((start, -1), (start, 1), (stop, 1), (stop, -1)):
                share = distance / (height - horizon)
                quad.append((vanish + (foot - vanish) * share + side * 4 * share, horizon + distance))
            brush.polygon(quad, paint)
    for _ in range(rng.integers(0, 4)):
        y, x = rng.uniform(horizon + 10, height), rng.uniform(0, width)
        half = rng.uniform(20, 160)
        brush.ellipse([x - half, y, x + half, y + half * 0.12], _lit(np.array([55, 55, 58]), light))


def _place(rng, size, focal, horizon) -> list[_Placed]:
    """Everything that stands about, the farthest first."""
    things = []
    wanted = [(sprites.building, rng.integers(2, 7), (25, 70)), (sprites.clutter, rng.integers(4, 13), (6, 45))]
    wanted += [(sprites.vehicle, rng.integers(0, 7), (5, 42)), (sprites.pedestrian, rng.integers(0, 7), (5, 28))]
    for make, count, (near, far) in wanted:
        for _ in range(count):
            # Evenly over the logarithm of depth, so that sizes in pixels are as varied near as far.
            depth = float(np.exp(rng.uniform(np.log(near), np.log(far))))
            sprite, scale = make(rng), focal / depth
            width, height = sprite.width * scale, sprite.height * scale
            ground = horizon + focal * _CAMERA / depth + float(rng.normal(0, 0.01)) * size[1]
            left = float(rng.uniform(-0.5 * width, size[0] - 0.5 * width))
            things.append(_Placed(sprite, depth, left, ground - height, width, height))
    return sorted(things, key=lambda thing: -thing.depth)


def _paint(thing: _Placed, number, brush, counter, light) -> np.ndarray:
    """Paint a thing, write its number where it is, and return its extent as corners."""
    fade = 1 - np.exp(-light.density * thing.depth)
    shadow = thing.top + thing.height
    if thing.sprite.width > 0.3 and thing.depth < 60:
        dark = _lit(np.array([50, 50, 52]), light, fade)
        lip = max(1.0, 0.03 * thing.width)
        brush.ellipse([thing.left, shadow - lip, thing.left + thing.width, shadow + lip], dark)
    corners = []
    for kind, points, colour in thing.sprite.shapes:
        there = [(thing.left + x * thing.width, thing.top + y * thing.height) for x, y in points]
        fill = _lit(np.asarray(colour), light, fade)
        for canvas, value in ((brush, fill), (counter, number)):
            if kind == "ellipse":
                canvas.ellipse([*there[0], *there[1]], value)
            else:
                canvas.polygon(there, value)
        corners += there
    points = np.array(corners)
    return np.concatenate([points.min(0), points.max(0)])


def _label(placed, extents, numbers: np.ndarray, size) -> Truth:
    """KITTI's type, truncation and occlusion of each object, in the farthest-first order of the painting."""
    counts = np.bincount(numbers.reshape(-1), minlength=len(placed) + 1)
    boxes, names, truncation, occlusion = [], [], [], []
    for number, (thing, extent) in enumerate(zip(placed, extents, strict=True), 1):
        if not thing.sprite.kind:
            continue
        inside = np.clip(extent, 0, [*size, *size])
        whole, seen = ((b[2] - b[0]) * (b[3] - b[1]) for b in (extent, inside))
        if inside[2] - inside[0] < 2 * _FINE or inside[3] - inside[1] < 2 * _FINE:
            continue
        cut = 1 - seen / whole
        share = counts[number] / max(_own_area(thing) * (1 - cut), 1)
        if share < _HIDDEN:
            continue
        level = int(np.sum(share < np.array(_VISIBLE)))
        unsure = level > 2 or cut > _MOST_TRUNCATED or inside[3] - inside[1] < _LEAST_HEIGHT * _FINE
        boxes.append(inside / _FINE)
        names.append("DontCare" if unsure else thing.sprite.kind)
        truncation.append(-1 if unsure else cut)
        occlusion.append(-1 if unsure else level)
    dont_care = np.array([n == "DontCare" for n in names], bool)
    return Truth(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        names=tuple(names),
        ignored=dont_care,
        regions=dont_care,
        truncation=np.array(truncation, np.float32),
        occlusion=np.array(occlusion, np.int64),
    )


def _own_area(thing: _Placed) -> float:
    """Pixels that a thing covers where nothing hides it: its shapes painted alone, in a unit square of fixed size."""
    from PIL import Image, ImageDraw

    side = 64
    alone = Image.new("L", (side, side), 0)
    brush = ImageDraw.Draw(alone)
    for kind, points, _ in thing.sprite.shapes:
        there = [(x * (side - 1), y * (side - 1)) for x, y in points]
        if kind == "ellipse":
            brush.ellipse([*there[0], *there[1]], 1)
        else:
            brush.polygon(there, 1)
    return float(np.asarray(alone).mean()) * thing.width * thing.height


def _lit(colour: np.ndarray, light: _Light, fade: float = 0.0) -> tuple[int, int, int]:
    """A surface's colour under this light, faded into the haze."""
    return tuple(int(v) for v in np.clip(colour * light.gain * (1 - fade) + light.haze * fade, 0, 255))


def _expose(rng, pixels: np.ndarray) -> np.ndarray:
    """What the camera adds: a bright or dark side, vignetting, noise."""
    x, y = np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT)[:, None]
    shade = 1 + rng.uniform(-0.15, 0.15) * x + rng.uniform(-0.1, 0.1) * y - rng.uniform(0, 0.15) * (x**2 + y**2)
    pixels *= shade[..., None].astype(np.float32)
    pixels += np.float32(rng.uniform(1, 7)) * rng.standard_normal(pixels.shape, np.float32)
    return np.clip(np.round(pixels), 0, 255).astype(np.uint8)
