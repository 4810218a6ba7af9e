"""Images to ``tf.data`` batches of (image, one-hot label, weight).

The batch of a step is a pure function of (seed, step): each pass over the data has its own seeded order, each step its
own generator for augmentation. Nothing has to be remembered to go on in the middle of a training.
"""

import functools
from dataclasses import dataclass

import numpy as np

from kzoo.data import augment, stepwise
from kzoo.data.images import Images
from kzoo.errors import KzooError

# Parts of the key of a random generator, so that a seed's order, augmentation and first mirror images are independent.
_ORDER, _AUGMENT, _MIRROR = 0, 1, 2


@dataclass(frozen=True)
class Normalization:
    """From pixel units to network input: ``(pixel - mean) / std`` per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Normalise contiguous float32 images (batch, height, width, channels) in pixel units, in place."""
        # Row by row: NumPy's inner loop would be as short as the channels are few.
        rows, width = values.reshape(*values.shape[:2], -1), values.shape[2]
        rows -= np.tile(np.asarray(self.mean, np.float32), width)
        rows *= np.tile(1 / np.asarray(self.std, np.float32), width)
        return values


class Batches:
    """Training and evaluation batches of one image collection part."""

    def __init__(
        self,
        images: Images,
        *,
        classes: int,
        batch_size: int,
        normalization: Normalization,
        settings: augment.Settings | None = None,
        class_weights: np.ndarray | None = None,
        seed: int = 0,
    ):
        """Describe batches; nothing is read yet.

        Args:
            images: The images.
            classes: Number of classes.
            batch_size: Images in a batch; training batches are never larger than the collection.
            normalization: Applied to every image.
            settings: Augmentation of training batches; None for none.
            class_weights: float32 (classes,), the weight of an example by its class; None for 1.
            seed: Fixes order and augmentation.
        """
        self.images, self.classes, self.seed = images, classes, seed
        self.batch_size = min(batch_size, len(images))
        self.normalization, self.settings, self.class_weights = normalization, settings, class_weights
        self.failures: list[KzooError] = []
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))

    @property
    def steps_per_pass(self) -> int:
        """Full batches in one pass over the data; the images left over differ from pass to pass."""
        return len(self.images) // self.batch_size

    def training_batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The batch of a step, counted from the start of the training.

        Returns:
            float32 images (batch, height, width, channels), float32 labels (batch, classes), one-hot unless they are
            mixed, and float32 example weights (batch,).
        """
        number, place = divmod(step, self.steps_per_pass)
        order = self._order_of(number)[place * self.batch_size : (place + 1) * self.batch_size]
        pixels, labels = self.images.batch(order)
        if self.settings is None:
            return self._finish(pixels.astype(np.float32), labels)
        rng = np.random.default_rng([self.seed, _AUGMENT, step])
        if self.settings.flip == "alternating":
            # Where a file was unreadable the batch is shorter, and those behind it take each other's turns.
            turns = (self._mirrored[order] + number) % 2 == 1
            pixels = augment.mirror(pixels, turns[: len(pixels)])
        pixels = augment.varied(augment.geometric(pixels, self.settings, rng), self.settings, rng)
        values = augment.photometric(pixels.astype(np.float32), self.settings, rng)
        return self._finish(values, labels, rng)

    def training(self, first_step: int, steps: int):
        """A ``tf.data.Dataset`` of the batches of `steps` steps from `first_step` on."""
        return self._dataset(range(first_step, first_step + steps), self.training_batch)

    def evaluation(self, batch_size: int | None = None):
        """A ``tf.data.Dataset`` of all images once, in order, unchanged; the last batch may be smaller."""
        size = batch_size or self.batch_size

        def batch(step: int):
            pixels, labels = self.images.batch(np.arange(step * size, min((step + 1) * size, len(self.images))))
            return self._finish(pixels.astype(np.float32), labels)

        return self._dataset(range(-(-len(self.images) // size)), batch)

    def _finish(self, values: np.ndarray, labels: np.ndarray, rng: np.random.Generator | None = None):
        if not len(labels):
            # All images of the batch were unreadable: one blank image of weight zero keeps the mean loss defined.
            shape = (1, *self.images.shape)
            return (
                np.zeros(shape, np.float32),
                np.zeros((1, self.classes), np.float32),
                np.zeros(1, np.float32),
            )
        values = self.normalization(values)
        if rng is not None:
            values = augment.cutout(values, self.settings, rng)
        one_hot = np.zeros((len(labels), self.classes), np.float32)
        one_hot[np.arange(len(labels)), labels] = 1
        weights = np.ones(len(labels), np.float32) if self.class_weights is None else self.class_weights[labels]
        if rng is not None:
            return augment.mix(values, one_hot, weights, self.settings, rng)
        return values, one_hot, weights

    @functools.cached_property
    def _mirrored(self) -> np.ndarray:
        """0 or 1 for each image: whether the first pass mirrors it."""
        return np.random.default_rng([self.seed, _MIRROR]).integers(0, 2, len(self.images))

    def _order_of(self, number: int) -> np.ndarray:
        """The order of one pass; the last one asked for is kept."""
        kept, order = self._order
        if kept != number:
            order = np.random.default_rng([self.seed, _ORDER, number]).permutation(len(self.images))
            self._order = (number, order)
        return order

    def _dataset(self, steps: range, batch):
        shapes = ((None, *self.images.shape), (None, self.classes), (None,))
        return stepwise.dataset(steps, batch, [("float32", s) for s in shapes], failures=self.failures)
