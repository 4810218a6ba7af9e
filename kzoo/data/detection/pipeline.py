"""Pictures with objects to batches, a pure function of (seed, step), so that a resumed training goes on exactly."""

import concurrent.futures
import os
from collections.abc import Callable, Iterator

import numpy as np

from kzoo.data import stepwise
from kzoo.data.detection import augment
from kzoo.data.detection.collection import Part
from kzoo.data.detection.truth import ANY, Truth
from kzoo.data.pipeline import Normalization
from kzoo.errors import KzooError

# Parts of the key of a random generator, so that a seed's order and augmentation are independent.
_ORDER, _AUGMENT = 0, 1
# A label for rows that stand for nothing, where pictures have fewer objects than others of the batch.
PADDING = -2


class Batches:
    """Batches of one part of a data set."""

    def __init__(
        self,
        part: Part,
        *,
        size: tuple[int, int],
        channels: int,
        fit: str,
        batch_size: int,
        normalization: Normalization,
        settings: augment.Settings | None = None,
        seed: int = 0,
    ):
        """Describe batches; nothing is read yet.

        Args:
            part: The pictures.
            size: Height and width of the network's input.
            channels: Its channels.
            fit: ``stretch`` or ``pad``.
            batch_size: Pictures in a batch; training batches are never larger than the part.
            normalization: Applied to every picture; its mean is what lies beyond a picture, unless that is padded.
            settings: Augmentation of training batches; None for none.
            seed: Fixes order and augmentation.
        """
        self.part, self.size, self.channels, self.fit = part, tuple(size), channels, fit
        self.batch_size, self.seed = min(batch_size, len(part)), seed
        self.normalization, self.settings = normalization, settings
        # Evaluation, prediction and exported graphs pad with black, as `kzoo.data.decode.resize` does.
        beyond = np.zeros(channels) if fit == "pad" else normalization.mean
        self.fill = np.clip(np.round(beyond), 0, 255).astype(np.uint8)
        self.failures: list[KzooError] = []

    @property
    def steps_per_pass(self) -> int:
        """Full batches in one pass over the data."""
        return len(self.part) // self.batch_size

    def training_pictures(self, step: int) -> tuple[np.ndarray, list[Truth]]:
        """The augmented pictures of a step, before they are normalised.

        Returns:
            float32 (batch, height, width, channels) from 0 to 255, and the objects, boxes in shares of the picture.
        """
        number, place = divmod(step, self.steps_per_pass)
        order = np.random.default_rng([self.seed, _ORDER, number]).permutation(len(self.part))
        rng = np.random.default_rng([self.seed, _AUGMENT, step])
        chosen = order[place * self.batch_size : (place + 1) * self.batch_size]
        pairs = [self._one(int(n), number, child) for n, child in zip(chosen, rng.spawn(len(chosen)), strict=True)]
        values = np.stack([pixels for pixels, _ in pairs]).astype(np.float32)
        if self.settings is not None:
            values = augment.colours(values, self.settings, rng)
        return values, [truth for _, truth in pairs]

    def training_batch(self, step: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The batch of a step, counted from the start of the training.

        Returns:
            float32 images (batch, height, width, channels); float32 boxes (batch, objects, 4), corners in shares of the
            image; int32 labels (batch, objects): a class, `ANY` for what is ignored, `PADDING` for no object.
        """
        values, truths = self.training_pictures(step)
        return self.normalization(np.ascontiguousarray(values)), *padded(truths)

    def training(self, first_step: int, steps: int, encode: Callable):
        """A ``tf.data.Dataset`` of (images, targets) of `steps` steps from `first_step` on.

        Args:
            first_step: Counted from the start of the training.
            steps: How many.
            encode: From boxes and labels, as of `training_batch`, to the targets; runs as a TensorFlow graph.
        """

        def finish(images, boxes, labels):
            return images, encode(boxes, labels)

        return stepwise.dataset(
            range(first_step, first_step + steps),
            self.training_batch,
            [
                ("float32", (self.batch_size, *self.size, self.channels)),
                ("float32", (None, None, 4)),
                ("int32", (None, None)),
            ],
            finish=finish,
            calls=max(2, os.cpu_count() or 2),
            failures=self.failures,
        )

    def evaluation(self) -> Iterator[tuple[np.ndarray, list[int]]]:
        """All readable pictures once, in order, unchanged: normalised images and their places in the part."""
        starts = range(0, len(self.part), self.batch_size)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            # One batch is made ready while the one before is at work.
            waiting = None
            for start in starts:
                coming = pool.submit(self._evaluation_batch, start)
                if waiting is not None and (batch := waiting.result())[1]:
                    yield batch
                waiting = coming
            if waiting is not None and (batch := waiting.result())[1]:
                yield batch

    def _evaluation_batch(self, start: int) -> tuple[np.ndarray, list[int]]:
        from kzoo.data import decode

        read = [(n, self.part.picture(n)) for n in range(start, min(start + self.batch_size, len(self.part)))]
        places = [n for n, pixels in read if pixels is not None]
        if not places:
            return np.zeros((0, *self.size, self.channels), np.float32), []
        shown = [decode.resize(pixels, self.size, self.fit).numpy() for _, pixels in read if pixels is not None]
        return self.normalization(np.stack(shown).astype(np.float32)), places

    def _one(self, number: int, turn: int, rng: np.random.Generator) -> tuple[np.ndarray, Truth]:
        """One picture and its objects as the network will see them in a pass over the part."""
        pixels, truth = self.part.shown(number, turn)
        if pixels is None:
            # Nothing is known of what cannot be read: an empty picture that is ignored as a whole.
            return np.tile(self.fill, (*self.size, 1)), _all_ignored()
        view = augment.whole(pixels.shape[:2], self.size, self.fit)
        if self.settings is not None:
            view = augment.draw(view, truth, self.settings, rng)
        return augment.resample(pixels, view, self.size, self.fill), augment.move(truth, view, self.size)


def padded(truths: list[Truth]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and labels of a batch as arrays; see `Batches.training_batch`."""
    most = max(1, *(len(t) for t in truths))
    boxes = np.zeros((len(truths), most, 4), np.float32)
    labels = np.full((len(truths), most), PADDING, np.int32)
    for row, truth in enumerate(truths):
        boxes[row, : len(truth)] = truth.boxes
        labels[row, : len(truth)] = np.where(truth.ignored, ANY, truth.labels)
    return boxes, labels


def _all_ignored() -> Truth:
    from kzoo.data.detection.truth import truth

    whole = truth([[0, 0, 1, 1]], [""], ignored=[True], regions=[True])
    return whole.with_labels([ANY], False)
