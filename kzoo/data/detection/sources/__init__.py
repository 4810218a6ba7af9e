"""Sources of pictures with objects: ``kind`` or ``kind:rest`` opens with ``kzoo.data.detection.sources.<kind>``.

A module has ``open_source(rest, reading, problems)``, which returns the parts and the source's own classes,
``check(rest, reading)``, which raises what can be known without reading, and ``located(rest, reading)``, which gives
the recipe's data keys as they mean the same from any working directory.
"""

import importlib
import pkgutil

from kzoo.data.detection.collection import Collection, ObjectReading, Problems, collect
from kzoo.errors import RequestError, nearest


def open_collection(source: str, reading: ObjectReading) -> Collection:
    """Open a data set by its source string: ``builtin:scenes``, ``kitti``, ``voc``, ``coco``, ``yolo``, ``tfds:NAME``.

    Raises:
        RequestError: Unknown kind, missing data, or data that do not fit; says what would do instead.
    """
    check(source, reading)
    module, rest = _module(source)
    problems = Problems(reading.on_corrupt)
    raw, classes = module.open_source(rest, reading, problems)
    return collect(raw, classes, reading, problems)


def check(source: str, reading: ObjectReading) -> None:
    """Raise what is wrong with a source as far as a look at the disk tells, which needs no TensorFlow."""
    module, rest = _module(source)
    module.check(rest, reading)


def located(source: str, reading: ObjectReading) -> dict:
    """The recipe's data keys for a source, with absolute paths."""
    module, rest = _module(source)
    return module.located(rest, reading)


def _module(source: str):
    kind, _, rest = source.partition(":")
    kinds = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    if kind not in kinds:
        raise RequestError(f"data.source {source!r} is none of {', '.join(kinds)}{nearest(kind, kinds)}")
    return importlib.import_module(f"{__name__}.{kind}"), rest
