"""Files that appear whole or not at all, and folders that one process has to itself.

A file is written under a temporary name, flushed to disk and renamed.
"""

import contextlib
import fcntl
import hashlib
import itertools
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path

from kzoo.errors import DiskFull, KzooError, RequestError, disk_is_full


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path` to write to; on success it is flushed to disk and takes `path`'s name.

    Raises:
        RequestError: The folder cannot be made, or something else has that name.
        DiskFull: There is no room for it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    # The suffix stays last because some writers choose the format by it.
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{''.join(path.suffixes[-2:]) or '.tmp'}")
    try:
        yield temporary
        flush(temporary)
        try:
            os.replace(temporary, path)
        except OSError as error:  # a folder has that name
            raise _unwritable(path, error) from None
        flush(path.parent)
    except OSError as error:
        # What else goes wrong meanwhile, such as a download, is for others to put into words.
        if not disk_is_full(error):
            raise
        raise _unwritable(path, error) from None
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _unwritable(path: Path, error: OSError) -> KzooError:
    kind = DiskFull if disk_is_full(error) else RequestError
    # Libraries put pages of their own in the place of the system's words.
    return kind(f"{path} cannot be written: {os.strerror(error.errno) if error.errno else error}")


def flush(path: Path) -> None:
    """Have a file or folder written to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        RequestError: It cannot be written.
        DiskFull: There is no room for it.
    """
    with atomic(path) as temporary:
        try:
            temporary.write_text(text, "utf-8")
        except OSError as error:
            raise _unwritable(path, error) from None


def write_json(path: Path, values) -> None:
    """Write a JSON file atomically; numbers that are not finite are written as null."""
    write_text(path, json.dumps(finite(values), indent=1) + "\n")


def read_json(path: Path, default=None):
    """Read a JSON file; `default` where it is absent.

    Raises:
        RequestError: The file cannot be read, or is not valid JSON.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return default
    except OSError as error:
        raise RequestError(f"{path} cannot be read: {error.strerror}") from None
    except RecursionError:
        raise RequestError(f"{path} is not valid JSON: it is nested too deeply") from None
    except ValueError as error:
        raise RequestError(f"{path} is not valid JSON: {error}") from None


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def finite(value):
    """The value with None in the place of every number that JSON cannot hold."""
    if isinstance(value, dict):
        return {k: finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def new_folder(path: Path) -> Path:
    """Make a folder that nobody else has: `path`, or where that is taken the first free one of path-2, path-3, ...

    Raises:
        OSError: It cannot be made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        found = path if number == 1 else path.with_name(f"{path.name}-{number}")
        with contextlib.suppress(FileExistsError):
            found.mkdir()
            return found


@contextlib.contextmanager
def lock(folder: Path, work: str) -> Iterator[None]:
    """Keep other processes from the same work in a folder; the lock ends with the process, however it ends.

    Raises:
        RequestError: Another process holds it.
    """
    with open(folder / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RequestError(f"another process is {work} in {folder}") from None
        yield
