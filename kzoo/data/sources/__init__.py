"""Data sources: ``kind:rest`` opens with the function `open_source` of the module ``kzoo.data.sources.<kind>``.

A module may also have ``check(rest, reading)``, which raises what can be known without reading, and
``located(rest, reading)``, which gives the recipe's data keys as they mean the same from any working directory.
"""

import importlib
import pkgutil

from kzoo.data.images import Collection
from kzoo.data.reading import Reading
from kzoo.errors import RequestError, nearest


def open_collection(source: str, reading: Reading) -> Collection:
    """Open a labelled image collection by its source string.

    Args:
        source: ``builtin:digits``, ``tfds:NAME``, ``folder:PATH``, ``npz:PATH``.
        reading: Size, channels and caching of what is read.

    Raises:
        RequestError: Unknown kind, missing data, or data that do not fit; says what would do instead.
    """
    check(source, reading)
    module, rest = _module(source)
    return module.open_source(rest, reading)


def check(source: str, reading: Reading) -> None:
    """Raise what is wrong with a source as far as a look at the disk tells, which needs no TensorFlow."""
    module, rest = _module(source)
    if hasattr(module, "check"):
        module.check(rest, reading)


def located(source: str, reading: Reading) -> dict:
    """The recipe's data keys for a source, with absolute paths."""
    module, rest = _module(source)
    return module.located(rest, reading) if hasattr(module, "located") else {"source": source}


def _module(source: str):
    kind, colon, rest = source.partition(":")
    kinds = sorted(m.name for m in pkgutil.iter_modules(__path__))
    if kind not in kinds or not colon or not rest:
        forms = ", ".join(f"{k}:..." for k in kinds)
        hint = nearest(kind, kinds) if kind not in kinds else ""
        raise RequestError(f"data.source {source!r} is none of {forms}{hint}")
    return importlib.import_module(f"{__name__}.{kind}"), rest
