"""Where a convolutional classifier looks: Grad-CAM (Selvaraju et al. 2016, arXiv 1610.02391)."""

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from kzoo.errors import RequestError

# A picture of a small image is enlarged to at least this.
LEAST_SIDE = 256
_PASSING = (keras.layers.MaxPooling2D, keras.layers.AveragePooling2D, keras.layers.Dropout)


def feature_layer(model, name: str | None = None) -> keras.layers.Layer:
    """The layer whose feature maps are weighed: the named one, or the last one that computes maps.

    Raises:
        RequestError: There is no such layer, or it gives no maps.
    """
    maps = [layer for layer in model.layers if _gives_maps(layer)]
    computing = [layer for layer in maps if not isinstance(layer, _PASSING)]
    if name is None and computing:
        # Behind a pooling the same maps are coarser.
        return computing[-1]
    known = ", ".join(layer.name for layer in maps[-8:]) or "none"
    if name is None:
        raise RequestError(f"{model.name} has no convolutional layer to explain")
    if name not in {layer.name for layer in maps}:
        raise RequestError(f"{model.name} has no layer {name!r} that gives feature maps; its last ones: {known}")
    return model.get_layer(name)


def heat_maps(model, layer: keras.layers.Layer, images, wanted: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Grad-CAM of a batch of images.

    Each map of the layer is weighted by the mean gradient of the class's logit in it (eq. 1); what is left of their sum
    above zero (eq. 2) is the heat.

    Args:
        model: A float32 classifier with logits.
        layer: See `feature_layer`.
        images: Normalised, (batch, height, width, channels).
        wanted: The class to explain; None for the most probable one of each image.

    Returns:
        Heat, float32 (batch, rows, columns) of the layer's resolution, not scaled; and logits, (batch, classes).
    """
    network = keras.Model(model.inputs[0], [layer.output, model.outputs[0]])
    with tf.GradientTape() as tape:
        features, logits = network(images, training=False)
        chosen = tf.argmax(logits, 1) if wanted is None else tf.fill([len(images)], wanted)
        scores = tf.gather(logits, chosen, axis=1, batch_dims=1)
    weights = tf.reduce_mean(tape.gradient(scores, features), (1, 2), keepdims=True)
    return tf.nn.relu(tf.reduce_sum(weights * features, -1)).numpy(), logits.numpy()


def overlay(pixels: np.ndarray, heat: np.ndarray, strength: float = 0.5) -> np.ndarray:
    """The image with its heat over it, enlarged where it is small.

    Args:
        pixels: uint8 (height, width, 1 or 3).
        heat: float (rows, columns), at least zero; its largest value is shown hottest.
        strength: Share of the heat's colour where it is hottest, in [0, 1].

    Returns:
        uint8 (height, width, 3).
    """
    from matplotlib import colormaps

    factor = max(1, -(-LEAST_SIDE // min(pixels.shape[:2])))
    height, width = (factor * n for n in pixels.shape[:2])
    image = np.repeat(np.repeat(pixels, factor, 0), factor, 1) / 255.0
    image = np.broadcast_to(image, (height, width, 3))
    warm = tf.image.resize(heat[..., None] / max(float(heat.max()), 1e-12), (height, width)).numpy()
    coloured = colormaps["inferno"](warm[..., 0])[..., :3]
    share = strength * warm
    return np.round(255 * ((1 - share) * image + share * coloured)).astype(np.uint8)


def write(path: Path, picture: np.ndarray) -> Path:
    """Write a picture as PNG."""
    path.write_bytes(tf.io.encode_png(picture).numpy())
    return path


def _gives_maps(layer) -> bool:
    shape = getattr(getattr(layer, "output", None), "shape", ())
    return len(shape) == 4 and not isinstance(layer, keras.layers.InputLayer)
