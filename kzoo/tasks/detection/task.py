"""Training and judging a detector."""

from pathlib import Path
from typing import Any

import numpy as np

from kzoo import registry
from kzoo.build import build
from kzoo.data.detection import augment
from kzoo.data.detection.collection import Collection, Part, hold_out
from kzoo.data.detection.pipeline import Batches
from kzoo.data.detection.sources import located, open_collection
from kzoo.data.pipeline import Normalization
from kzoo.data.spacing import spaced
from kzoo.data.stepwise import explained
from kzoo.errors import RequestError
from kzoo.recipe import from_values
from kzoo.run import Run
from kzoo.tasks import base, fitting, optimizers, precision
from kzoo.tasks.detection import coco, coverage, drawing, figures, transfer
from kzoo.tasks.detection.detections import Detections, finish, of_batch
from kzoo.tasks.detection.losses import losses
from kzoo.tasks.detection.targets import Encoder

SAMPLES = 8
# ImageNet's mean colour, which the weights of keras.applications.VGG16 were trained less.
IMAGENET_MEAN = (123.68, 116.779, 103.939)
# Sources whose truth has KITTI's types, truncation, occlusion and DontCare.
_KITTI_SOURCES = ("kitti", "builtin:scenes")
_STATISTICS = 500  # pictures


class Task(base.Task):
    """A detection recipe with its pictures."""

    default_monitor = "val_map50"
    collection: Collection
    normalization: Normalization
    _traced = (None, None)

    def look_ahead(self) -> None:
        """Fetch or find the backbone's weights, before minutes are spent on opening the pictures."""
        if self.recipe.arguments.get("backbone_weights") is not None:
            build(self.recipe.model, **self.recipe.arguments)

    def open(self) -> None:
        """Open the pictures, hold out the validation part, and resolve classes, normalisation and precision."""
        optimizers.check(self.recipe.train)
        data, (_, _, channels) = self.recipe.data, self._input_shape
        self.collection = open_collection(data.source, data.reading(channels))
        parts = self.collection.parts
        if "validation" not in parts and data.validation and len(parts["train"]) > 1:
            parts["train"], parts["validation"] = hold_out(parts["train"], data.validation, data.seed)
        self.check_validation(parts)
        for part in {id(p.pictures): p for p in parts.values()}.values():
            part.pictures.keep(data.cache, channels)
        self._resolve()

    def card(self) -> dict[str, Any]:
        """Model, arguments, labels and preprocessing."""
        height, width, channels = self._input_shape
        detect = self.recipe.detect
        return self.common_card(
            labels=list(self.collection.classes),
            preprocessing={
                "image_size": [height, width],
                "channels": channels,
                "fit": self.recipe.data.fit,
                "mean": list(self.normalization.mean),
                "std": list(self.normalization.std),
            },
            detect={"score": detect.score, "overlap": detect.overlap, "limit": detect.limit},
        )

    def samples(self) -> dict[str, np.ndarray]:
        """Encoded pictures of their own size, of the test part where there is one, evenly spaced."""
        parts = self.collection.parts
        return self._spaced(parts.get("test") or parts.get("validation") or parts["train"], SAMPLES)

    def calibration(self, count: int) -> dict[str, np.ndarray]:
        """Encoded pictures of the training part, evenly spaced."""
        return self._spaced(self.collection.parts["train"], count)

    def _spaced(self, part: Part, count: int) -> dict[str, np.ndarray]:
        """So many encoded pictures, evenly spaced."""
        import tensorflow as tf

        places = spaced(len(part), count)
        pictures = [p for p in (part.picture(int(n)) for n in places) if p is not None]
        if not pictures:
            raise RequestError(f"none of the pictures of {self.recipe.data.source} can be read")
        encoded = [np.frombuffer(tf.io.encode_png(p).numpy(), np.uint8) for p in pictures]
        # NumPy keeps byte strings of several lengths only by pickling them.
        return {"bytes": np.concatenate(encoded), "lengths": np.array([len(e) for e in encoded])}

    def start(self, *, fresh: bool = True):
        """See `kzoo.tasks.base.Task.start`; also that an epoch has steps enough."""
        batches = self.batches(self.collection.parts["train"], training=True)
        fitting.epoch_steps(self.recipe.train, batches.steps_per_pass)
        return super().start(fresh=fresh)

    def initial(self, fresh: bool):
        """The model with what ``train.weights`` and ``arguments.backbone_weights`` say."""
        weights = self.recipe.train.weights
        if not fresh or weights is None or not transfer.is_foreign(weights, self.recipe.model):
            return super().initial(fresh)
        model = build(self.recipe.model, **self.recipe.arguments)
        transfer.carry(weights, model)
        return model

    def fit(self, model, run: Run, until: int | None = None) -> dict[str, Any] | None:
        """Train on the training part, judged on the validation part after each epoch."""
        settings, parts = self.recipe.train, self.collection.parts
        batches = self.batches(parts["train"], training=True)
        encoder = Encoder(model.default_boxes, settings.match_overlap)

        def judge(model) -> dict[str, float]:
            part = parts["validation"]
            truths, found = self.detect(model, part)
            return figures.brief(truths, found, self.collection.classes)

        with explained(batches.failures):
            return fitting.fit(
                model,
                run,
                settings,
                loss=losses(settings),
                metrics=[],
                monitor=self.monitor,
                training=lambda first, count: batches.training(first, count, encoder),
                validation=None,
                judge=judge if "validation" in parts else None,
                steps_per_pass=batches.steps_per_pass,
                items_per_step=batches.batch_size,
                unit="pictures",
                dtype_policy=self.recipe.arguments.get("dtype_policy", "float32"),
                until=until,
            )

    @property
    def splits(self) -> set[str]:
        """Parts that the data have."""
        return set(self.collection.parts)

    def evaluate(self, model, split: str) -> dict[str, Any]:
        """COCO, VOC and KITTI figures; precision, recall and F1 at the score that is best on the validation part."""
        parts, classes = self.collection.parts, self.collection.classes
        part = self._part(split)
        threshold = None
        if "validation" in parts and split != "validation":
            # Chosen on the part that is judged, the threshold would flatter it.
            threshold = self.best_threshold(model)
        truths, found = self.detect(model, part)
        with_kitti = self.recipe.data.source in _KITTI_SOURCES
        return figures.judge(truths, found, classes, threshold=threshold, with_kitti=with_kitti)

    def _part(self, split: str) -> Part:
        parts = self.collection.parts
        if split not in parts:
            raise RequestError(f"{self.recipe.data.source} has no {split} part; it has {', '.join(sorted(parts))}")
        return parts[split]

    def best_threshold(self, model) -> float:
        """The score at which F1 is highest on the validation part."""
        truths, found = self.detect(model, self.collection.parts["validation"])
        matched = [coco.match(truths, found, label) for label in range(len(self.collection.classes))]
        return coco.best_threshold(matched)

    def draw(self, found: dict[str, Any], folder: Path) -> list[Path]:
        """Curves of precision over recall as a PNG."""
        return [figures.draw_curves(found, folder / "precision_recall.png")]

    def notes(self) -> list[str]:
        """What was wrong with the data, by kind, and what they lack."""
        notes = self.collection.problems.notes()
        if self.recipe.data.source.startswith("tfds:kitti"):
            notes.append(
                "TFDS has KITTI without DontCare: KITTI's own protocol takes its folder, vgg16_detector/kitti-folder"
            )
        return notes

    def inspect(self, out: Path, pictures: int, *, plain: bool) -> dict[str, Any]:
        """A sheet of training pictures with their boxes, and how many objects there are of each class."""
        parts, classes = self.collection.parts, self.collection.classes
        batches = self.batches(parts["train"], training=not plain)
        shown = []
        for step in range(-(-pictures // batches.batch_size)):
            values, truths = batches.training_pictures(step)
            shown += [drawing.with_truth(v.astype(np.uint8), t, classes) for v, t in zip(values, truths, strict=True)]
        path = drawing.write(out, drawing.sheet(shown[:pictures]))
        counts = {part: _counted(p.truths, classes) for part, p in parts.items()}
        return {"sheet": str(path), "classes": counts}

    def anchors(self, split: str, shapes: int) -> dict[str, Any]:
        """See `kzoo.survey.anchors`."""
        part, size = self._part(split), self._input_shape[:2]
        moved = [
            augment.move(t, augment.whole(tuple(s), size, self.recipe.data.fit), size).counted()
            for t, s in zip(part.truths, part.sizes, strict=True)
        ]
        objects, labels = coverage.sample(
            np.concatenate([t.boxes for t in moved]), np.concatenate([t.labels for t in moved])
        )
        if not len(objects):
            raise RequestError(f"the {split} part has no objects")
        overlap, defaults = self.recipe.train.match_overlap, self.build().default_boxes
        found = {
            "boxes": len(defaults),
            "input": list(size),
            "overlap": overlap,
            "rows": coverage.report(objects, labels, self.collection.classes, defaults, size, overlap),
        }
        if shapes:
            sides = (objects[:, 2:] - objects[:, :2]).astype(np.float64) * size[::-1]
            fitted, iou = coverage.shapes(sides, shapes)
            rows = [
                {
                    "width": float(w),
                    "height": float(h),
                    "scale": float((w * h) ** 0.5 / min(size)),
                    "ratio": float(w / h),
                }
                for w, h in fitted
            ]
            found |= {"shapes": rows, "shapes_iou": iou}
        return found

    def batches(self, part: Part, training: bool = False) -> Batches:
        """Batches of a part, augmented as the recipe says if they are for training."""
        data, (height, width, channels) = self.recipe.data, self._input_shape
        augmenting = training and data.augment != type(data.augment)()
        return Batches(
            part,
            size=(height, width),
            channels=channels,
            fit=data.fit,
            batch_size=data.batch_size,
            normalization=self.normalization,
            settings=data.augment if augmenting else None,
            seed=self.recipe.train.seed,
        )

    def detect(self, model, part: Part) -> tuple[list, list[Detections]]:
        """Truth and detections of all pictures of a part that can be read."""
        network, size, fit = self._network(model), self._input_shape[:2], self.recipe.data.fit
        truths, found, sizes = [], [], part.sizes
        for images, places in self.batches(part).evaluation():
            windows = np.array([augment.whole(tuple(sizes[n]), size, fit).window for n in places])
            found += of_batch(network(images), sizes[places], windows)
            truths += [part.truths[n] for n in places]
        return truths, found

    def _network(self, model):
        """From images to detections as a graph, which is made once for a model."""
        import tensorflow as tf

        known, graph = self._traced
        if known is not model:
            how = self.recipe.detect

            @tf.function(reduce_retracing=True)
            def graph(images):
                outputs = model(images, training=False)
                return finish(outputs, model.default_boxes, score=how.score, overlap=how.overlap, limit=how.limit)

            self._traced = (model, graph)
        return graph

    @property
    def _input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        default = next(p.default for p in registry.find(self.recipe.model).parameters if p.name == "input_shape")
        return tuple(self.recipe.arguments.get("input_shape", default))

    def _resolve(self) -> None:
        """Fill in what follows from the data and this machine; refuse what contradicts the data."""
        data, classes = self.recipe.data, len(self.collection.classes)
        values = self.recipe.values()
        values["data"] |= located(data.source, data.reading(self._input_shape[2]))
        given = values["arguments"].get("num_classes")
        if given is not None and given != classes:
            names = ", ".join(self.collection.classes)
            raise RequestError(f"arguments.num_classes is {given}, and the data have {classes} classes: {names}")
        values["arguments"] |= {"num_classes": classes, "input_shape": list(self._input_shape)}
        path = values["arguments"].get("backbone_weights")
        if path not in (None, "imagenet"):
            values["arguments"]["backbone_weights"] = str(Path(path).expanduser().resolve())
        if self.takes("dtype_policy"):
            values["arguments"].setdefault("dtype_policy", precision.policy(self.recipe.train.precision))
        mean, std = (data.mean, data.std) if data.mean and data.std else self._statistics()
        if len(mean) != len(std) or len(mean) != self._input_shape[2]:
            raise RequestError(f"data.mean and data.std need {self._input_shape[2]} numbers each")
        self.normalization = Normalization(tuple(mean), tuple(std))
        values["data"] |= {"mean": list(mean), "std": list(std)}
        self.recipe = from_values(values, name=self.recipe.name)

    def _statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and deviation of each channel, as ``data.normalize`` says."""
        kind, weights, channels = self.recipe.data.normalize, self.recipe.train.weights, self._input_shape[2]
        if kind == "auto" and weights is not None and (known := transfer.preprocessing(weights, self.recipe.model)):
            return tuple(known["mean"]), tuple(known["std"])
        if kind == "auto":
            kind = "imagenet" if self.recipe.arguments.get("backbone_weights") else "standard"
        if kind == "imagenet":
            return IMAGENET_MEAN, (1.0,) * channels
        if kind == "unit":
            return (0.0,) * channels, (255.0,) * channels
        part = self.collection.parts["train"]
        places = spaced(len(part), _STATISTICS)
        pixels = [p for p in (part.picture(int(n)) for n in places) if p is not None]
        if not pixels:
            raise RequestError(f"none of the pictures of {self.recipe.data.source} can be read")
        rows = [p.reshape(-1, channels) for p in pixels]
        means = np.mean([r.mean(0, dtype=np.float64) for r in rows], 0)
        squares = np.mean([np.square(r, dtype=np.float64).mean(0) for r in rows], 0)
        deviations = np.sqrt(np.maximum(squares - means**2, 1e-6))
        return tuple(round(float(m), 4) for m in means), tuple(round(float(d), 4) for d in deviations)


def _counted(truths, classes) -> dict[str, int]:
    """Objects of each class, and those that are ignored."""
    labels = np.concatenate([t.counted().labels for t in truths])
    ignored = sum(int(t.ignored.sum()) for t in truths)
    return {**{name: int((labels == i).sum()) for i, name in enumerate(classes)}, "ignored": ignored}
