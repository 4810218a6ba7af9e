"""Training and judging an image classifier."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from kzoo.data.images import Collection, FileImages, Images, channel_statistics, hold_out
from kzoo.data.pipeline import Batches, Normalization
from kzoo.data.sources import located, open_collection
from kzoo.data.spacing import spaced
from kzoo.data.stepwise import explained
from kzoo.errors import RequestError
from kzoo.recipe import from_values
from kzoo.run import Run
from kzoo.tasks import base, fitting, optimizers, precision
from kzoo.tasks.classification import figures, views, whitening

SAMPLES = 16


class Task(base.Task):
    """A classification recipe with its images."""

    default_monitor = "val_accuracy"
    collection: Collection
    normalization: Normalization

    def open(self) -> None:
        """Open the images, hold out the validation part, and resolve input shape, classes and precision."""
        optimizers.check(self.recipe.train)
        data = self.recipe.data
        self.collection = open_collection(data.source, self.recipe.data.reading())
        parts = self.collection.parts
        if "validation" not in parts and data.validation:
            parts["train"], parts["validation"] = hold_out(parts["train"], data.validation, data.seed)
        self._check_parts()
        if data.normalize == "standard":
            mean, deviation = channel_statistics(parts["train"])
        else:
            mean, deviation = [0.0] * parts["train"].shape[2], [255.0] * parts["train"].shape[2]
        self.normalization = Normalization(tuple(mean), tuple(deviation))
        self._resolve()

    def card(self) -> dict[str, Any]:
        """Model, arguments, labels and preprocessing."""
        height, width, channels = self.collection.parts["train"].shape
        return self.common_card(
            labels=list(self.collection.classes),
            preprocessing={
                "image_size": [height, width],
                "channels": channels,
                "fit": self.recipe.data.fit,
                "mean": list(self.normalization.mean),
                "std": list(self.normalization.std),
            },
        )

    def samples(self) -> dict[str, np.ndarray]:
        """Raw uint8 images, of the test part where there is one, evenly spaced."""
        parts = self.collection.parts
        return _spaced(parts.get("test") or parts.get("validation") or parts["train"], SAMPLES)

    def calibration(self, count: int) -> dict[str, np.ndarray]:
        """Raw uint8 images of the training part, evenly spaced."""
        return _spaced(self.collection.parts["train"], count)

    def start(self, *, fresh: bool = True):
        """See `kzoo.tasks.base.Task.start`; also that an epoch has steps enough, and there is what to whiten."""
        batches = self._batches(self.collection.parts["train"], training=True)
        fitting.epoch_steps(self.recipe.train, batches.steps_per_pass)
        model = super().start(fresh=fresh)
        if self.recipe.train.whiten:
            whitening.freeze(model, self.recipe.train.whiten)
        return model

    def fit(self, model, run: Run, until: int | None = None) -> dict[str, Any] | None:
        """Train on the training part, validated on the held-out part."""
        settings, parts = self.recipe.train, self.collection.parts
        watching = self._whiten(model) if settings.whiten else []
        batches = self._batches(parts["train"], training=True)
        validation = self._batches(parts["validation"]) if "validation" in parts else None
        with explained(batches.failures, validation.failures if validation else ()):
            return fitting.fit(
                model,
                run,
                settings,
                loss=keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=settings.label_smoothing),
                metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
                monitor=self.monitor,
                training=batches.training,
                validation=validation.evaluation() if validation else None,
                steps_per_pass=batches.steps_per_pass,
                items_per_step=batches.batch_size,
                unit="images",
                dtype_policy=self.recipe.arguments.get("dtype_policy", "float32"),
                until=until,
                watching=watching,
            )

    @property
    def splits(self) -> set[str]:
        """Parts that the data have."""
        return set(self.collection.parts)

    def evaluate(self, model, split: str) -> dict[str, Any]:
        """Accuracy, top-5, per-class precision, recall and F1, confusion matrix; with ``data.tta`` its accuracy too."""
        parts, tta = self.collection.parts, self.recipe.data.tta
        if split not in self.splits:
            raise RequestError(f"{self.recipe.data.source} has no {split} part; it has {', '.join(sorted(parts))}")

        network = self._forward(model)
        logits, averaged, labels, batches = [], [], [], self._batches(parts[split])
        with explained(batches.failures):
            for images, one_hot, weights in batches.evaluation().as_numpy_iterator():
                real = weights > 0
                labels.append(one_hot.argmax(1)[real])
                logits.append(network(images)[real])
                if tta != "none":
                    averaged.append(views.average(network, images[real], tta, logits[-1]))
        truth = np.concatenate(labels)
        found = figures.judge(np.concatenate(logits), truth, self.collection.classes)
        if averaged:
            found["accuracy_tta"] = float((np.concatenate(averaged).argmax(1) == truth).mean())
        return found

    def _forward(self, model):
        """From images to logits, as NumPy arrays; compiled by XLA where the recipe asks for it by name."""
        if self.recipe.train.jit_compile is not True:
            return lambda images: keras.ops.convert_to_numpy(model(images, training=False))
        import tensorflow as tf

        compiled = tf.function(lambda images: model(images, training=False), jit_compile=True)
        return lambda images: compiled(images).numpy()

    def draw(self, found: dict[str, Any], folder: Path) -> list[Path]:
        """The confusion matrix as a PNG."""
        path = folder / "confusion_matrix.png"
        return [figures.draw_confusion_matrix(found["confusion_matrix"], self.collection.classes, path)]

    def notes(self) -> list[str]:
        """Images that could not be read, and their number."""
        unreadable = self.collection.unreadable
        lines = [f"skipped {path}: {reason}" for path, reason in sorted(unreadable.items())]
        return [*lines, f"{len(unreadable)} unreadable images were skipped"] if lines else []

    def _resolve(self) -> None:
        """Fill in what follows from the data and this machine; refuse what contradicts the data."""
        data = self.recipe.data
        shape, classes = self.collection.parts["train"].shape, len(self.collection.classes)
        values = self.recipe.values()
        values["data"] |= located(data.source, data.reading())
        if isinstance(self.collection.parts["train"], FileImages):
            # Read from the files each time: a run that goes on where more memory is free must not change that.
            values["data"]["cache"] = "none"
        for key, found in (("input_shape", list(shape)), ("num_classes", classes)):
            given = values["arguments"].get(key)
            if given is not None and given != found:
                raise RequestError(
                    f"arguments.{key} is {given}, and the data of {self.recipe.data.source} have {found}"
                )
            if self.takes(key):
                values["arguments"][key] = found
        if self.takes("dtype_policy"):
            values["arguments"].setdefault("dtype_policy", precision.policy(self.recipe.train.precision))
        self._check_class_weights()
        self.recipe = from_values(values, name=self.recipe.name)

    def _whiten(self, model) -> list[keras.callbacks.Callback]:
        """Let the frozen convolution whiten; a checkpoint that is gone on with holds the same kernel.

        Returns:
            What freezes its bias when that is due.
        """
        layer = model.get_layer(self.recipe.train.whiten)
        layer.kernel.assign(whitening.kernel(self.collection.parts["train"], self.normalization, layer.kernel_size))
        epochs = self.recipe.train.whiten_bias_epochs
        return [whitening.BiasFreezing(layer, epochs)] if epochs and layer.use_bias else []

    def _check_parts(self) -> None:
        """Refuse parts that do not belong together, and settings that would silently do nothing."""
        parts, source = self.collection.parts, self.recipe.data.source
        for name, images in parts.items():
            if not len(images):
                raise RequestError(f"the {name} part of {source} is empty; data.validation sets the validation part")
            if images.shape != parts["train"].shape:
                raise RequestError(
                    f"{source}: {name} images are {images.shape} and training images {parts['train'].shape}: "
                    "say data.image_size and data.channels"
                )
        self.check_validation(parts)

    def _check_class_weights(self) -> None:
        wanted = self.recipe.train.class_weights
        if isinstance(wanted, dict) and set(wanted) - set(self.collection.classes):
            unknown = sorted(set(wanted) - set(self.collection.classes))[0]
            raise RequestError(
                f"train.class_weights: the data have no class {unknown!r}; they have {self.collection.classes}"
            )

    def _class_weights(self, images: Images) -> np.ndarray | None:
        wanted, classes = self.recipe.train.class_weights, self.collection.classes
        if wanted == "none":
            return None
        if wanted == "balanced":
            counts = np.bincount(images.labels, minlength=len(classes))
            return (len(images) / (len(classes) * np.maximum(counts, 1))).astype(np.float32)
        return np.array([wanted.get(name, 1.0) for name in classes], np.float32)

    def _batches(self, images: Images, training: bool = False) -> Batches:
        data = self.recipe.data
        augmenting = training and data.augment != type(data.augment)()
        return Batches(
            images,
            classes=len(self.collection.classes),
            batch_size=data.batch_size if training else max(data.batch_size, 256),
            normalization=self.normalization,
            settings=data.augment if augmenting else None,
            class_weights=self._class_weights(images) if training else None,
            seed=self.recipe.train.seed,
        )


def _spaced(images: Images, count: int) -> dict[str, np.ndarray]:
    """So many images with their labels, evenly spaced."""
    pixels, labels = images.batch(spaced(len(images), count))
    return {"images": pixels, "labels": labels}
