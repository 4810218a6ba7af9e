"""One way from encoded bytes to pixels, used by training, prediction and the exported graph alike."""

import re

import tensorflow as tf


def decode(encoded, channels: int | None = None):
    """Decode a JPEG, PNG, BMP or GIF (its first frame) to uint8 (height, width, channels); works inside a graph."""
    # BMP and GIF cannot be decoded to one channel, so grey is made of whatever is there.
    pixels = tf.io.decode_image(encoded, channels=3 if channels == 3 else 0, expand_animations=False)
    if channels == 1:
        pixels = tf.cond(tf.shape(pixels)[-1] >= 3, lambda: _grey(pixels[..., :3]), lambda: pixels[..., :1])
    pixels.set_shape([None, None, channels])
    return pixels


def _grey(pixels):
    """Luma of ITU-R BT.601."""
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
        values = tf.image.resize_with_pad(values, height, width, antialias=True)
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
