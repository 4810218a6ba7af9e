"""What the zoo draws itself."""

import concurrent.futures
import os
from dataclasses import replace

import numpy as np

from kzoo.data.detection import scenes
from kzoo.data.detection.collection import ObjectReading, Pictures, Problems, Raw
from kzoo.data.detection.truth import Truth
from kzoo.errors import RequestError, nearest

# Scenes of each part; their numbers are their seeds, so that no scene is in two parts.
COUNTS = {"train": 2000, "validation": 200, "test": 400}


def open_source(name: str, reading: ObjectReading, problems: Problems) -> tuple[dict[str, Raw], tuple[str, ...]]:
    """Open ``builtin:scenes``: drawn road scenes with vehicles and pedestrians (see `kzoo.data.detection.scenes`)."""
    parts = {part: _draw(number, _count(part, reading)) for number, part in enumerate(COUNTS)}
    if reading.anew:
        parts["train"] = replace(parts["train"], drawn=_other)
    return parts, ()


def check(name: str, reading: ObjectReading) -> None:
    """Raise where there is no such set, or it is asked for in grey."""
    if name != "scenes":
        raise RequestError(f"there is no built-in data set {name!r} for detection{nearest(name, ['scenes'])}")
    if reading.channels != 3:
        raise RequestError("builtin:scenes are in colour: the model's input_shape needs three channels")


def located(name: str, reading: ObjectReading) -> dict:
    """The source as it is."""
    return {"source": f"builtin:{name}"}


def _count(part: str, reading: ObjectReading) -> int:
    return min(COUNTS[part], reading.limit or COUNTS[part])


def _other(place: int, turn: int) -> tuple[np.ndarray, Truth]:
    """Another training scene for each pass; the training part is the first of the parts."""
    return scenes.draw((0, place, turn))


def _draw(number: int, count: int) -> Raw:
    with concurrent.futures.ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        drawn = list(pool.map(scenes.draw, [(number, place) for place in range(count)]))
    sizes = np.tile([scenes.HEIGHT, scenes.WIDTH], (count, 1))
    pixels = [picture for picture, _ in drawn]
    return Raw(
        Pictures([f"scene {number}/{i}" for i in range(count)], sizes, pixels.__getitem__), [t for _, t in drawn]
    )
