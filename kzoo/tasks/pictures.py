"""What answers to pictures have in common: how a picture is read and becomes a network's input."""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from kzoo.data import decode
from kzoo.errors import RequestError, first_line
from kzoo.tasks import base


class PictureAnswers(base.Answers):
    """Answers of a network that takes pictures, by the labels and the preprocessing of its card.

    Attributes:
        labels: Names of the classes.
        how: The card's ``preprocessing``.
        size: Height and width of the network's input.
        channels: 1 or 3.
        noun: What an input is called in messages.
    """

    noun = "picture"

    def __init__(self, card: dict[str, Any]):
        super().__init__(card)
        self.labels, self.how = card["labels"], card["preprocessing"]
        self.size, self.channels = tuple(self.how["image_size"]), self.how["channels"]

    def read(self, given: str | Path | bytes | np.ndarray) -> np.ndarray:
        """A picture as uint8 (height, width, channels) of its own size.

        Args:
            given: A file's path, encoded bytes, or such an array.

        Raises:
            RequestError: It cannot be read, or the array is another.
        """
        if isinstance(given, np.ndarray):
            if given.dtype != np.uint8 or given.ndim != 3 or given.shape[-1] != self.channels:
                raise RequestError(
                    f"an array must be uint8 (height, width, {self.channels}), not {given.dtype} {given.shape}"
                )
            return given
        name = f"an encoded {self.noun}" if isinstance(given, bytes) else str(given)
        try:
            encoded = given if isinstance(given, bytes) else Path(given).read_bytes()
            return decode.image(encoded, None, self.channels, self.how["fit"])
        except OSError as error:
            raise RequestError(f"{name} cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise RequestError(f"{name} is no readable {self.noun}: {first_line(error)}") from None

    def resize(self, pixels):
        """uint8 pictures of the network's size, as tensors; works inside a graph."""
        return decode.resize(pixels, self.size, self.how["fit"])

    def normalize(self, pixels):
        """Pictures of the network's size as it takes them, float32; works inside a graph."""
        mean, std = (tf.constant(self.how[k], tf.float32) for k in ("mean", "std"))
        return (tf.cast(pixels, tf.float32) - mean) * (1 / std)
