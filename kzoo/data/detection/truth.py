"""What is known of the objects of one image."""

from dataclasses import dataclass, field, replace

import numpy as np

# Label of an object that stands for no class in particular.
ANY = -1


@dataclass(frozen=True)
class Truth:
    """The objects of one image.

    Attributes:
        boxes: float32 (objects, 4), corners (x1, y1, x2, y2) in pixels of the image as stored, clipped to it.
        names: What the source calls each object's class.
        ignored: bool (objects,): neither object nor background, in training and in judging (KITTI's DontCare, VOC's
            difficult, COCO's crowd).
        regions: bool (objects,): ignored ones that may hold several objects, so that a detection's overlap with them is
            measured over its own area (DontCare, crowd).
        truncation: float32 (objects,), share outside the image, -1 where unknown.
        occlusion: int64 (objects,), KITTI's 0 visible, 1 partly, 2 largely occluded, 3 or -1 unknown.
        labels: int64 (objects,), place among the classes, `ANY` for what is ignored whatever a detection calls it;
            empty before classes are assigned.
    """

    boxes: np.ndarray
    names: tuple[str, ...]
    ignored: np.ndarray
    regions: np.ndarray
    truncation: np.ndarray
    occlusion: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self.names)

    def take(self, places) -> "Truth":
        """The objects at these places."""
        places = np.asarray(places, np.int64).reshape(-1)
        arrays = ("boxes", "ignored", "regions", "truncation", "occlusion")
        taken = {name: getattr(self, name)[places] for name in arrays}
        labels = self.labels[places] if len(self.labels) else self.labels
        return Truth(**taken, names=tuple(self.names[i] for i in places), labels=labels)

    def counted(self) -> "Truth":
        """The objects that are not ignored."""
        return self.take(np.flatnonzero(~self.ignored))

    def with_labels(self, labels, ignored) -> "Truth":
        """The same objects with their classes assigned, some more of them ignored."""
        return replace(self, labels=np.asarray(labels, np.int64).reshape(-1), ignored=self.ignored | ignored)


def truth(boxes, names, *, ignored=None, regions=None, truncation=None, occlusion=None) -> Truth:
    """A `Truth` from lists; what a source does not know is left out."""
    count = len(names)

    def filled(values, default, dtype):
        return np.full(count, default, dtype) if values is None else np.asarray(values, dtype).reshape(count)

    return Truth(
        boxes=np.asarray(boxes, np.float32).reshape(count, 4),
        names=tuple(names),
        ignored=filled(ignored, False, bool),
        regions=filled(regions, False, bool),
        truncation=filled(truncation, -1, np.float32),
        occlusion=filled(occlusion, -1, np.int64),
    )
