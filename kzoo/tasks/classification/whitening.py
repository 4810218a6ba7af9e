"""A first convolution that whitens the training images' patches (Jordan 2024, arXiv 2404.00498, section 3.2)."""

import keras
import numpy as np

from kzoo.data.images import Images
from kzoo.data.pipeline import Normalization
from kzoo.data.spacing import spaced
from kzoo.errors import RequestError

# Images that the covariance is taken of, and what keeps a direction of hardly any variance from being blown up.
IMAGES, EPSILON = 5000, 5e-4
_VALUES = 16_000_000  # of patches at once


def freeze(model, name: str) -> keras.layers.Conv2D:
    """Take the kernel of a convolution out of the training.

    Raises:
        RequestError: The model has no such convolution, or its filters are not as many as whitening gives.
    """
    convolutions = {layer.name: layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)}
    if name not in convolutions:
        raise RequestError(f"train.whiten: {model.name} has no convolution {name!r}; it has {', '.join(convolutions)}")
    layer = convolutions[name]
    height, width, channels, filters = layer.kernel.shape
    if filters != 2 * height * width * channels:
        raise RequestError(
            f"train.whiten: {name} has {filters} filters, and whitening its {height}x{width} patches of {channels} "
            f"channels gives {2 * height * width * channels}"
        )
    layer.kernel.trainable = False
    return layer


class BiasFreezing(keras.callbacks.Callback):
    """Takes the bias out of the training too, after some epochs: nothing is left to be trained before the first group
    of layers, whose gradient with respect to its input is then not computed any more.
    """

    def __init__(self, layer: keras.layers.Conv2D, epochs: int):
        super().__init__()
        self.bias, self.epochs = layer.bias, epochs

    def on_epoch_begin(self, epoch, logs=None):
        """Freeze it when that is due, and let Keras trace the step anew."""
        if epoch >= self.epochs and self.bias.trainable:
            self.bias.trainable = False
            self.model.make_train_function(force=True)


def kernel(images: Images, normalization: Normalization, size: tuple[int, int]) -> np.ndarray:
    """The whitening kernel of images: eigenvectors of their patches' covariance, each with its negative.

    Args:
        images: Evenly spaced ones of these are looked at.
        normalization: What the network's input went through.
        size: Height and width of a patch.

    Returns:
        float32 (height, width, channels, filters) with ``filters = 2 * height * width * channels``. Convolving with the
        first half gives uncorrelated values of unit variance, the largest eigenvalue's first; the second half is its
        negative.
    """
    places = spaced(len(images), IMAGES)
    length = size[0] * size[1] * images.shape[2]
    count, squares = 0, np.zeros((length, length))
    step = max(1, _VALUES // (images.shape[0] * images.shape[1] * length))
    for start in range(0, len(places), step):
        values = normalization(images.batch(places[start : start + step])[0].astype(np.float32))
        # Windows come as (batch, row, column, channel, height, width).
        windows = np.lib.stride_tricks.sliding_window_view(values, size, (1, 2)).transpose(0, 1, 2, 4, 5, 3)
        patches = windows.reshape(-1, length)
        count, squares = count + len(patches), squares + patches.T @ patches
    variances, directions = np.linalg.eigh(squares / count)
    half = (directions / np.sqrt(variances + EPSILON))[:, ::-1]
    return np.concatenate([half, -half], 1).reshape(*size, images.shape[2], -1).astype(np.float32)
