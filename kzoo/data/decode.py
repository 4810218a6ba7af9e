"""One way from encoded bytes to pixels, used by training, prediction and the exported graph alike."""

import re

import tensorflow as tf


def decode(encoded, channels: int | None = None):
    """Decode a JPEG, PNG, BMP or GIF (its first frame) to uint8 (height, width, channels); works inside a graph."""
    # BMP and GIF cannot be decoded to one channel, so grey is made of whatever is there.
    pixels = tf.io.decode_image(encoded, channels=3 if channels == 3 else 0, expand_animations=False)
    if channels == 1:
        pixels = tf.cond(tf.shape(pixels)[-1] >= 3, lambda: grey(pixels[..., :3]), lambda: pixels[..., :1])
    pixels.set_shape([None, None, channels])
    return pixels


def grey(pixels):
    """Luma of ITU-R BT.601, of uint8 (..., height, width, 3) to uint8 (..., height, width, 1)."""
    luma = tf.tensordot(tf.cast(pixels, tf.float32), [0.299, 0.587, 0.114], 1)[..., None]
    return tf.cast(tf.round(luma), tf.uint8)


def resize(pixels, size: tuple[int, int], fit: str = "stretch"):
    """Bring uint8 images to a size, bilinear with antialiasing; works inside a graph.

    Args:
        pixels: uint8, (..., height, width, channels).
        size: Height and width in pixels.
        fit: ``stretch`` changes the aspect ratio, ``crop`` cuts the longer side, ``pad`` adds black.

    Returns:
        uint8 of that size.
    """
    height, width = size
    values = tf.cast(pixels, tf.float32)
    if fit == "pad":
        have = tf.unstack(tf.shape(pixels, out_type=tf.int64)[-3:-1])
        inner, (top, left) = ([tf.cast(n, tf.int32) for n in pair] for pair in inside(have, size))
        values = tf.image.resize(values, inner, antialias=True)
        around = [[top, height - inner[0] - top], [left, width - inner[1] - left], [0, 0]]
        leading = [[0, 0]] * (len(pixels.shape) - 3)
        values = tf.ensure_shape(tf.pad(values, [*leading, *around]), (*pixels.shape[:-3], height, width, None))
    elif fit == "crop":
        have = tf.cast(tf.shape(values)[-3:-1], tf.float32)
        scale = tf.reduce_max(tf.constant([height, width], tf.float32) / have)
        inner = tf.maximum(tf.cast(tf.round(have * scale), tf.int32), [height, width])
        values = tf.image.resize(values, inner, antialias=True)
        top, left = (inner[0] - height) // 2, (inner[1] - width) // 2
        values = values[..., top : top + height, left : left + width, :]
    else:
        values = tf.image.resize(values, size, antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(values), 0, 255), tf.uint8)


def inside(have, size: tuple[int, int]):
    """Where a picture lies in a padded one; takes whole numbers of Python, and int64 tensors inside a graph.

    In whole numbers throughout: a graph's optimiser may turn a division into a multiplication, and a side of 192.0 then
    becomes one of 191.

    Args:
        have: Height and width of the picture.
        size: Height and width of the padded one.

    Returns:
        Height and width that it is brought to, and the rows above and the columns left of it.
    """
    height, width = size
    # The side that fills its room has the larger of these; the other is rounded.
    longest = _larger(have[0] * width, have[1] * height)
    down = _larger((have[0] * width * height + longest // 2) // longest, 1)
    across = _larger((have[1] * height * width + longest // 2) // longest, 1)
    return (down, across), ((height - down) // 2, (width - across) // 2)


def _larger(first, second):
    """The larger of two whole numbers or tensors."""
    return (first + second + abs(first - second)) // 2


def image(encoded: bytes, size: tuple[int, int] | None, channels: int | None, fit: str):
    """Decode bytes outside a graph.

    Args:
        encoded: The file's content.
        size: Height and width to bring it to; None keeps its own.
        channels: 1 or 3; None keeps its own, and takes 3 for what is neither.
        fit: See `resize`.

    Returns:
        uint8 array (height, width, channels).

    Raises:
        ValueError: The bytes are no image that TensorFlow can decode.
    """
    try:
        pixels = decode(encoded, channels)
        if pixels.shape[-1] not in (1, 3):
            pixels = decode(encoded, 3)
        if size is not None and tuple(pixels.shape[:2]) != tuple(size):
            pixels = resize(pixels, size, fit)
    except tf.errors.OpError as error:
        raise ValueError(re.sub(r"\{\{.*?\}\}\s*|\s*\[Op:\w+\].*", "", error.message)) from None
    return pixels.numpy()
