"""What one request may ask for, because a small body can ask for a great deal of work or memory."""

import io
from dataclasses import dataclass

import numpy as np

from kzoo.serving.protocol import Query, Refused


@dataclass(frozen=True)
class Limits:
    """Bounds of one request.

    Attributes:
        body: Bytes of its body.
        rows: Examples in it.
        pixels: Of one encoded picture; a PNG of some kilobytes can hold gigabytes.
        length: Characters of a text to write.
        seconds: Until the whole body must have arrived.
    """

    body: int = 16 * 2**20
    rows: int = 256
    pixels: int = 40_000_000
    length: int = 4096
    seconds: float = 30


def check(query: Query, limits: Limits) -> None:
    """Refuse a request that asks for too much.

    Raises:
        Refused: It does.
    """
    if query.rows > limits.rows:
        raise Refused(413, f"the request holds {query.rows} examples, and at most {limits.rows} are taken at once")
    length = query.inputs.get("length")
    if length is not None and length.ndim == 0 and not 1 <= length <= limits.length:
        raise Refused(400, f"length is {length}, and takes 1 to {limits.length}")
    for encoded in np.atleast_1d(query.inputs.get("encoded", ())):
        _check_picture(encoded, limits.pixels)


def _check_picture(encoded: bytes, most: int) -> None:
    """Look at a picture's header, before anything decodes it."""
    from PIL import Image

    try:
        # Opening reads the header only; Pillow's own bound is for decoding, and warns where this refuses.
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG", "GIF", "BMP")) as picture:
            width, height = picture.size
    except Image.DecompressionBombError:
        raise Refused(413, f"a picture has more than {most:,} pixels") from None
    except Exception:  # Pillow raises one of many for what is no picture
        raise Refused(400, "the input 'encoded' holds bytes that are no JPEG, PNG, GIF or BMP picture") from None
    if width * height > most:
        raise Refused(413, f"a picture of {width} x {height} pixels has more than {most:,}")
