"""Pictures with boxes drawn in."""

import colorsys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from kzoo.data.detection.truth import Truth
from kzoo.errors import RequestError

# A small picture is enlarged to at least this height, so that its labels can be read.
LEAST_HEIGHT = 360
# What objects are called that count for nothing.
IGNORED = "ignored"
_GREY = (170, 170, 170)


def with_boxes(pixels: np.ndarray, objects: Sequence[dict], labels: Sequence[str]) -> np.ndarray:
    """A picture with its objects' boxes, labels and scores.

    Args:
        pixels: uint8 (height, width, 1 or 3).
        objects: ``box`` (x1, y1, x2, y2 in pixels), ``label``, and optionally ``score``; the first are drawn last.
        labels: All labels; each has a colour of its own.

    Returns:
        uint8 (height, width, 3), enlarged by a whole factor where the picture is small.
    """
    from PIL import Image, ImageDraw, ImageFont

    factor = max(1, round(LEAST_HEIGHT / pixels.shape[0]))
    height, width = (factor * n for n in pixels.shape[:2])
    picture = Image.fromarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)).astype(np.uint8))
    picture = picture.resize((width, height), Image.Resampling.BILINEAR) if factor > 1 else picture
    brush, line = ImageDraw.Draw(picture), max(1, round(height / 250))
    font = ImageFont.load_default(max(10, round(height / 36)))
    for thing in reversed(objects):
        colour = _GREY if thing["label"] == IGNORED else colour_of(labels.index(thing["label"]))
        x1, y1, x2, y2 = (factor * float(v) for v in thing["box"])
        brush.rectangle([x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)], outline=colour, width=line)
        said = thing["label"] + (f" {thing['score']:.2f}" if "score" in thing else "")
        left, top, right, bottom = brush.textbbox((0, 0), said, font=font)
        place = (x1, y1 - bottom - 2 if y1 > bottom + 2 else y1 + line)
        brush.rectangle([place[0], place[1], place[0] + right + 2, place[1] + bottom + 2], fill=colour)
        brush.text((place[0] + 1 - left, place[1] + 1 - top / 2), said, fill=(0, 0, 0), font=font)
    return np.asarray(picture)


def with_truth(pixels: np.ndarray, truth: Truth, classes: Sequence[str]) -> np.ndarray:
    """A picture with what is known of it; see `with_boxes`.

    Args:
        pixels: uint8 (height, width, 1 or 3).
        truth: Objects with labels, boxes in shares of the picture; ignored ones are drawn as such.
        classes: Class names.
    """
    scale = np.tile(pixels.shape[1::-1], 2)
    names = [IGNORED if ignored else classes[n] for n, ignored in zip(truth.labels, truth.ignored, strict=True)]
    objects = [{"label": n, "box": box} for n, box in zip(names, truth.boxes * scale, strict=True)]
    return with_boxes(pixels, objects, [*classes, IGNORED])


def sheet(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size, (height, width, 3), in rows and columns on one sheet that is about square."""
    (height, width), gap = pictures[0].shape[:2], 4
    columns = max(1, min(len(pictures), round((len(pictures) * height / width) ** 0.5)))
    rows = -(-len(pictures) // columns)
    page = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        top, left = (n * (side + gap) for n, side in zip(divmod(number, columns), (height, width), strict=True))
        page[top : top + height, left : left + width] = picture
    return page


def colour_of(place: int) -> tuple[int, int, int]:
    """A bright colour for the label at this place; steps of the golden ratio keep neighbours apart."""
    hue = (0.1 + 0.618 * place) % 1
    return tuple(round(255 * v) for v in colorsys.hsv_to_rgb(hue, 0.75, 1.0))


def write(path: Path, picture: np.ndarray) -> Path:
    """Write a picture as PNG; its folder is made.

    Raises:
        RequestError: It cannot be written.
    """
    from PIL import Image

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    except (OSError, ValueError) as error:  # the latter of a suffix that no form of pictures has
        raise RequestError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from None
    return path
