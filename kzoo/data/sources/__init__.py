"""Data sources: ``kind:rest`` opens with the function `open_source` of the module ``kzoo.data.sources.<kind>``."""

import importlib
import pkgutil

from kzoo.data.images import Collection, Reading
from kzoo.errors import RequestError, nearest


def open_collection(source: str, reading: Reading) -> Collection:
    """Open a labelled image collection by its source string.

    Args:
        source: ``builtin:digits``, ``tfds:NAME``, ``folder:PATH``, ``npz:PATH``.
        reading: Size, channels and caching of what is read.

    Raises:
        RequestError: Unknown kind, missing data, or data that do not fit; says what would do instead.
    """
    kind, colon, rest = source.partition(":")
    kinds = sorted(m.name for m in pkgutil.iter_modules(__path__))
    if kind not in kinds or not colon or not rest:
        forms = ", ".join(f"{k}:..." for k in kinds)
        raise RequestError(
            f"data.source {source!r} is none of {forms}{nearest(kind, kinds) if kind not in kinds else ''}"
        )
    return importlib.import_module(f"{__name__}.{kind}").open_source(rest, reading)
