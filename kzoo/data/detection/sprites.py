"""What stands in a drawn road scene: flat shapes in metres, coloured at random.

A sprite is drawn in a unit square, x to the right and y down, that its width and height in metres stretch.
"""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
# A polygon's corners, or an ellipse's bounding box, and the colour; all in the unit square.
Shape = tuple[str, tuple[tuple[float, float], ...], Colour]

_GLASS = (60.0, 75.0, 90.0)
_RUBBER = (25.0, 25.0, 28.0)


@dataclass(frozen=True)
class Sprite:
    """A flat thing.

    Attributes:
        kind: KITTI's type of it, or "" for clutter.
        width: Metres.
        height: Metres.
        shapes: What is painted, one over the other.
    """

    kind: str
    width: float
    height: float
    shapes: tuple[Shape, ...]


def vehicle(rng: np.random.Generator) -> Sprite:
    """A car or a van, from the side, from behind or from the front, or at an angle."""
    van = rng.random() < 0.25
    paint = _paint(rng)
    kind, height = ("Van", rng.uniform(1.9, 2.4)) if van else ("Car", rng.uniform(1.35, 1.65))
    view = rng.choice(["side", "end", "angle"], p=[0.35, 0.35, 0.3])
    if view == "side":
        width, shapes = rng.uniform(4.4, 5.2) if van else rng.uniform(3.8, 4.7), _side(rng, paint, van)
    elif view == "end":
        width, shapes = rng.uniform(1.8, 2.1) if van else rng.uniform(1.65, 1.9), _end(rng, paint, van)
    else:
        width, shapes = rng.uniform(2.7, 3.6), _angle(rng, paint, van)
    return _mirrored(rng, Sprite(kind, float(width), float(height), shapes))


def pedestrian(rng: np.random.Generator) -> Sprite:
    """Someone who stands or walks, seen from anywhere around."""
    coat, trousers, skin = _cloth(rng), _cloth(rng), _shade((224, 180, 150), rng.uniform(0.35, 1.05))
    stride, lean = rng.uniform(0, 0.32), rng.uniform(-0.05, 0.05)
    hip, neck, half = 0.5, 0.17, rng.uniform(0.2, 0.3)
    foot = 0.5 - stride, 0.5 + stride
    shapes: list[Shape] = []
    for x in foot:
        inner = 0.5 + (x - 0.5) * 0.3
        leg = ((inner - 0.12, hip), (inner + 0.12, hip), (x + 0.1, 1.0), (x - 0.1, 1.0))
        shapes.append(("polygon", leg, trousers))
        shapes.append(("polygon", ((x - 0.1, 0.96), (x + 0.15, 0.96), (x + 0.15, 1.0), (x - 0.1, 1.0)), _RUBBER))
    long_coat = hip + (0.14 if rng.random() < 0.3 else 0.03)
    torso = ((0.5 - half + lean, neck), (0.5 + half + lean, neck), (0.5 + half * 0.8, long_coat))
    shapes.append(("polygon", (*torso, (0.5 - half * 0.8, long_coat)), coat))
    for side in (-1, 1):
        hand = 0.5 + side * (half + rng.uniform(-0.1, 0.14))
        shoulder = 0.5 + side * half + lean
        arm = ((shoulder - 0.07, neck), (shoulder + 0.07, neck), (hand + 0.06, 0.5), (hand - 0.06, 0.5))
        shapes.append(("polygon", arm, _shade(coat, 0.85)))
    if rng.random() < 0.3:
        bag = 0.5 + rng.choice([-1, 1]) * half
        corners = ((bag - 0.14, 0.22), (bag + 0.14, 0.22), (bag + 0.14, 0.42), (bag - 0.14, 0.42))
        shapes.append(("polygon", corners, _cloth(rng)))
    head = 0.5 + lean
    shapes.append(("ellipse", ((head - 0.15, 0.0), (head + 0.15, 0.16)), skin))
    shapes.append(("ellipse", ((head - 0.15, 0.0), (head + 0.15, 0.09)), _shade((90, 60, 35), rng.uniform(0.2, 1.6))))
    height = rng.uniform(1.5, 1.95) if rng.random() < 0.85 else rng.uniform(1.0, 1.4)
    return Sprite("Pedestrian", 0.42 * float(height), float(height), tuple(shapes))


def clutter(rng: np.random.Generator) -> Sprite:
    """Something that is neither, though some of it is as tall and thin as people or as wide and low as cars."""
    return (_tree, _pole, _sign, _bin, _hedge, _crate)[rng.choice(6, p=[0.25, 0.2, 0.15, 0.15, 0.15, 0.1])](rng)


def building(rng: np.random.Generator) -> Sprite:
    """A house's front with windows."""
    wall, glass = _shade(_grey(rng, 30), rng.uniform(0.5, 1.1)), _shade(_GLASS, rng.uniform(0.5, 1.8))
    rows, columns = rng.integers(2, 6), rng.integers(2, 7)
    shapes: list[Shape] = [("polygon", _rectangle(0, 0, 1, 1), wall)]
    for row in range(rows):
        for column in range(columns):
            x, y = (column + 0.25) / columns, (row + 0.2) / rows
            shapes.append(("polygon", _rectangle(x, y, x + 0.5 / columns, y + 0.5 / rows), glass))
    return Sprite("", float(columns * rng.uniform(2, 4)), float(rows * rng.uniform(2.8, 3.6)), tuple(shapes))


# --- vehicles -----------------------------------------------------------------------------------------------------


def _side(rng, paint, van) -> tuple[Shape, ...]:
    """Seen from the side, the front to the right."""
    belt = 0.42 if van else rng.uniform(0.4, 0.5)
    rear, bonnet = (0.01, 0.9) if van else (rng.uniform(0.02, 0.18), rng.uniform(0.68, 0.78))
    windscreen = bonnet - (0.1 if van else rng.uniform(0.12, 0.2))
    low = rng.uniform(0.82, 0.88)
    body = ((0.0, belt), (bonnet, belt), (0.98, belt + 0.08), (1.0, low), (0.0, low))
    roof = ((rear, belt + 0.01), (rear + 0.07, 0.0), (windscreen, 0.0), (bonnet, belt + 0.01))
    glass = ((rear + 0.05, belt - 0.03), (rear + 0.1, 0.07), (windscreen - 0.02, 0.07), (bonnet - 0.05, belt - 0.03))
    shapes: list[Shape] = [("polygon", roof, paint), ("polygon", body, paint), ("polygon", glass, _GLASS)]
    shapes.append(("polygon", _rectangle(0.0, low - 0.14, 1.0, low), _shade(paint, 0.7)))
    post = (rear + windscreen) / 2 + 0.05
    shapes.append(("polygon", _rectangle(post, 0.05, post + 0.03, belt), paint))
    size = rng.uniform(0.075, 0.09)
    for x in (rng.uniform(0.15, 0.2), rng.uniform(0.78, 0.83)):
        shapes.append(("ellipse", ((x - size, 1 - 0.36), (x + size, 1.0)), _RUBBER))
        shapes.append(("ellipse", ((x - size / 2, 0.73), (x + size / 2, 0.91)), (150.0, 150.0, 155.0)))
    shapes.append(("polygon", _rectangle(0.96, belt + 0.1, 1.0, belt + 0.2), (240.0, 230.0, 180.0)))
    shapes.append(("polygon", _rectangle(0.0, belt + 0.05, 0.03, belt + 0.18), (190.0, 30.0, 25.0)))
    return tuple(shapes)


def _end(rng, paint, van) -> tuple[Shape, ...]:
    """Seen from behind or from the front."""
    behind, belt, inset = rng.random() < 0.6, 0.5 if van else 0.42, 0.03 if van else rng.uniform(0.1, 0.17)
    lamp = (200.0, 30.0, 25.0) if behind else (245.0, 240.0, 200.0)
    shapes: list[Shape] = [
        ("polygon", _rectangle(0.06, 0.78, 0.26, 1.0), _RUBBER),
        ("polygon", _rectangle(0.74, 0.78, 0.94, 1.0), _RUBBER),
        ("polygon", ((0.05, belt), (inset, 0.0), (1 - inset, 0.0), (0.95, belt)), paint),
        ("polygon", _rectangle(0.0, belt - 0.02, 1.0, 0.88), paint),
        ("polygon", ((0.12, belt - 0.03), (inset + 0.05, 0.07), (0.95 - inset, 0.07), (0.88, belt - 0.03)), _GLASS),
        ("polygon", _rectangle(0.0, 0.74, 1.0, 0.88), _shade(paint, 0.65)),
    ]
    height = rng.uniform(0.08, 0.16)
    for x in (0.02, 0.98 - 0.17):
        shapes.append(("polygon", _rectangle(x, belt + 0.08, x + 0.17, belt + 0.08 + height), lamp))
    plate = (225.0, 225.0, 215.0) if behind or rng.random() < 0.5 else (40.0, 40.0, 42.0)
    shapes.append(("polygon", _rectangle(0.36, 0.68, 0.64, 0.78), plate))
    return tuple(shapes)


def _angle(rng, paint, van) -> tuple[Shape, ...]:
    """Seen from behind at an angle: a narrow side in shade to the right of the end."""
    cut = rng.uniform(0.35, 0.6)
    shaded = _shade(paint, rng.uniform(0.7, 0.9))

    def squeezed(shapes, low, high):
        return tuple((k, tuple((low + x * (high - low), y) for x, y in points), c) for k, points, c in shapes)

    return squeezed(_side(rng, shaded, van), cut - 0.12, 1.0) + squeezed(_end(rng, paint, van), 0.0, cut)


# --- clutter ------------------------------------------------------------------------------------------------------


def _tree(rng) -> Sprite:
    green = _shade((70, 110, 50), rng.uniform(0.5, 1.3))
    trunk = _shade((95, 70, 50), rng.uniform(0.5, 1.2))
    shapes: list[Shape] = [("polygon", _rectangle(0.45, 0.4, 0.55, 1.0), trunk)]
    for _ in range(rng.integers(3, 7)):
        x, y, r = rng.uniform(0.2, 0.8), rng.uniform(0.15, 0.45), rng.uniform(0.15, 0.2)
        shapes.append(("ellipse", ((x - r, y - r * 0.8), (x + r, y + r * 0.8)), _shade(green, rng.uniform(0.8, 1.2))))
    return Sprite("", float(rng.uniform(2.0, 4.5)), float(rng.uniform(3.0, 7.0)), tuple(shapes))


def _pole(rng) -> Sprite:
    grey = _grey(rng, 10)
    shapes: list[Shape] = [("polygon", _rectangle(0.4, 0.0, 0.6, 1.0), grey)]
    if rng.random() < 0.4:
        lamp = _rectangle(0.0, 0.0, 0.6, 0.03)
        shapes.append(("polygon", lamp, grey))
    return Sprite("", float(rng.uniform(0.25, 0.8)), float(rng.uniform(1.2, 6.0)), tuple(shapes))


def _sign(rng) -> Sprite:
    board = _cloth(rng)
    shapes: list[Shape] = [("polygon", _rectangle(0.45, 0.2, 0.55, 1.0), (130.0, 130.0, 130.0))]
    round_one = rng.random() < 0.5
    corners = ((0.0, 0.0), (1.0, 0.28)) if round_one else _rectangle(0.0, 0.0, 1.0, 0.28)
    shapes.append(("ellipse" if round_one else "polygon", corners, board))
    return Sprite("", float(rng.uniform(0.5, 0.8)), float(rng.uniform(1.8, 2.6)), tuple(shapes))


def _bin(rng) -> Sprite:
    paint = _cloth(rng)
    shapes: tuple[Shape, ...] = (
        ("polygon", ((0.08, 0.1), (0.92, 0.1), (0.85, 1.0), (0.15, 1.0)), paint),
        ("polygon", _rectangle(0.0, 0.0, 1.0, 0.14), _shade(paint, 0.7)),
    )
    return Sprite("", float(rng.uniform(0.5, 0.9)), float(rng.uniform(0.8, 1.3)), shapes)


def _hedge(rng) -> Sprite:
    green = _shade((60, 100, 50), rng.uniform(0.5, 1.3))
    shapes: list[Shape] = [("polygon", _rectangle(0.0, 0.25, 1.0, 1.0), green)]
    for _ in range(rng.integers(4, 9)):
        x, r = rng.uniform(0.1, 0.9), rng.uniform(0.06, 0.1)
        shapes.append(("ellipse", ((x - r, 0.05), (x + r, 0.5)), _shade(green, rng.uniform(0.85, 1.15))))
    return Sprite("", float(rng.uniform(1.5, 5.0)), float(rng.uniform(0.7, 1.6)), tuple(shapes))


def _crate(rng) -> Sprite:
    """A container: as large as a car, of a car's colours, without wheels and windows."""
    paint = _paint(rng)
    shapes: list[Shape] = [("polygon", _rectangle(0.0, 0.0, 1.0, 1.0), paint)]
    ribs = rng.integers(3, 9)
    for rib in range(ribs):
        x = (rib + 0.4) / ribs
        shapes.append(("polygon", _rectangle(x, 0.06, x + 0.25 / ribs, 0.94), _shade(paint, 0.75)))
    return Sprite("", float(rng.uniform(1.8, 4.5)), float(rng.uniform(1.2, 2.2)), tuple(shapes))


# --- colours and forms --------------------------------------------------------------------------------------------


def _rectangle(left, top, right, bottom) -> tuple[tuple[float, float], ...]:
    return (left, top), (right, top), (right, bottom), (left, bottom)


def _mirrored(rng, sprite: Sprite) -> Sprite:
    if rng.random() < 0.5:
        return sprite
    shapes = tuple((kind, _flip(kind, points), colour) for kind, points, colour in sprite.shapes)
    return Sprite(sprite.kind, sprite.width, sprite.height, shapes)


def _flip(kind, points):
    if kind == "ellipse":
        (left, top), (right, bottom) = points
        return (1 - right, top), (1 - left, bottom)
    return tuple((1 - x, y) for x, y in points)


def _paint(rng) -> Colour:
    """A car's colour: most are white, grey or black."""
    if rng.random() < 0.6:
        return tuple(float(v) for v in np.full(3, rng.choice([30, 70, 120, 165, 200, 235])) + rng.uniform(-12, 12, 3))
    return tuple(float(v) for v in rng.uniform(20, 220, 3))


def _cloth(rng) -> Colour:
    return tuple(float(v) for v in rng.uniform(20, 230, 3))


def _grey(rng, spread) -> Colour:
    return tuple(float(v) for v in rng.uniform(80, 200) + rng.uniform(-spread, spread, 3))


def _shade(colour, factor) -> Colour:
    return tuple(float(v * factor) for v in colour)
