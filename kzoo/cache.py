"""The cache folder: what is large and can be made or fetched again, such as decoded images."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kzoo.errors import RequestError, disk_is_full

if TYPE_CHECKING:
    import numpy as np


def folder(kind: str) -> Path:
    """The part of the cache folder, ``KZOO_CACHE`` or else ``~/.cache/kzoo``, for one kind of things; may be absent."""
    return Path(os.environ.get("KZOO_CACHE", "~/.cache/kzoo")).expanduser() / kind


def entry(kind: str, identity: Any, suffix: str) -> Path:
    """Where something lies that is told from others by JSON values; the file may be absent."""
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    return folder(kind) / f"{digest[:24]}{suffix}"


@contextlib.contextmanager
def making(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it takes `path`'s name, else it is removed.

    Raises:
        RequestError: The folder cannot be made or written to.
    """
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise RequestError(
            f"the cache folder {path.parent} cannot be written to ({error.strerror or error}); KZOO_CACHE=FOLDER names "
            "another"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def filling(path: Path, kind, shape: tuple[int, ...]) -> Iterator["np.ndarray"]:
    """Give an array to fill that lies in an ``.npy`` file, which `path` is on success; see `making`.

    Args:
        path: Where it will be.
        kind: Its NumPy dtype.
        shape: Its shape.

    Raises:
        RequestError: The folder cannot be made or written to, or has no room for the array.
    """
    import numpy as np

    with making(path) as temporary:
        values = np.lib.format.open_memmap(temporary, "w+", kind, shape)
        _reserve(temporary)
        yield values
        values.flush()


def _reserve(path: Path) -> None:
    """Have the disk give a file the room that it is long; a process that fills a hole on a full one is killed."""
    if not hasattr(os, "posix_fallocate"):
        return
    with open(path, "r+b") as handle:
        try:
            os.posix_fallocate(handle.fileno(), 0, path.stat().st_size)
        except OSError as error:
            # Some file systems reserve nothing.
            if disk_is_full(error):
                raise
