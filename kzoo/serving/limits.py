"""What one request may ask for, because a small body can ask for a great deal of work or memory."""

import io
from dataclasses import dataclass

from kzoo.serving.protocol import Query
from kzoo.serving.refused import Refused


@dataclass(frozen=True)
class Limits:
    """Bounds of one request.

    Attributes:
        body: Bytes of its body.
        rows: Examples in it.
        pixels: Of one encoded picture; a PNG of some kilobytes can hold gigabytes, and so can the many pictures of an
            animated GIF, which TensorFlow decodes all for the first one's sake: only those with a single one are taken.
        aspect: How many times as long as the other a picture's side may be; what is cropped to a square is first
            brought to the square's height, whatever its width becomes.
        length: Tokens of a text to write, bytes of each prompt, and tokens in all that a network reads.
        seconds: Until a request's head must have arrived, and from then on its whole body.
    """

    body: int = 16 * 2**20
    rows: int = 256
    pixels: int = 40_000_000
    aspect: int = 100
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
    if length is not None and length.shape == () and length.dtype != object and not 1 <= length <= limits.length:
        raise Refused(400, f"length is {length}, and takes 1 to {limits.length}")
    # Prompts become one table as wide as the longest, and of each token that the network reads a row of logits comes.
    longest = max(map(len, _strings(query, "prompt")), default=0)
    if longest > limits.length:
        raise Refused(413, f"a prompt has {longest:,} bytes, and at most {limits.length:,} are taken")
    tokens = query.inputs["tokens"].size if "tokens" in query.inputs else 1
    if tokens > limits.length:
        raise Refused(413, f"the request holds {tokens:,} tokens, and at most {limits.length:,} are taken")
    for name in ("tokens", "images"):
        if name in query.inputs and not query.inputs[name].size:
            raise Refused(400, f"the request holds no {name}")
    images = query.inputs.get("images")
    if images is not None and images.ndim == 4:
        _check_sides(images.shape[2], images.shape[1], limits)
    for encoded in _strings(query, "encoded"):
        _check_picture(encoded, limits)


def _strings(query: Query, name: str) -> list[bytes]:
    """What an input of strings holds; nothing where there is no such input, or one of numbers."""
    array = query.inputs.get(name)
    return array.ravel().tolist() if array is not None and array.dtype == object else []


def _check_sides(width: int, height: int, limits: Limits) -> None:
    if max(width, height) > limits.aspect * min(width, height):
        raise Refused(413, f"a picture of {width} x {height} pixels is more than {limits.aspect} times as long as wide")


def _check_picture(encoded: bytes, limits: Limits) -> None:
    """Look at a picture's header, before anything decodes it."""
    from PIL import Image

    try:
        # Opening reads the header only; Pillow's own bound is for decoding, and warns where this refuses.
        with Image.open(io.BytesIO(encoded), formats=("JPEG", "PNG", "GIF", "BMP")) as picture:
            width, height = picture.size
            animated = picture.format == "GIF" and picture.is_animated
    except Image.DecompressionBombError:
        raise Refused(413, f"a picture has more than {limits.pixels:,} pixels") from None
    except Exception:  # Pillow raises one of many for what is no picture
        raise Refused(400, "the input 'encoded' holds bytes that are no JPEG, PNG, GIF or BMP picture") from None
    if animated:
        raise Refused(400, "the input 'encoded' holds an animated GIF, and takes single pictures")
    if width * height > limits.pixels:
        raise Refused(413, f"a picture of {width} x {height} pixels has more than {limits.pixels:,}")
    _check_sides(width, height, limits)
