"""The cache folder: what is large and can be made or fetched again, such as decoded images."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kzoo.errors import RequestError


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
