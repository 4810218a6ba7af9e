"""Folders of artefacts: their bytes, and how a new one takes the place of an old one."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kzoo.errors import RequestError, WorkError
from kzoo.export.report import read_report
from kzoo.files import flush, sha256
from kzoo.vetting.unchanged import REPORT, listed


def files(folder: Path) -> list[str]:
    """Everything in a folder that is no folder, relative to it; links are named and not followed."""
    found = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    return sorted(p.relative_to(folder).as_posix() for p in found)


def identify(path: Path) -> dict[str, Any]:
    """A file's ``bytes`` and ``sha256``."""
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def check_bytes(folder: Path, wanted: dict[str, str]) -> None:
    """Compare a folder with the SHA-256 of each of its files.

    Raises:
        WorkError: A file is missing, was added or was changed.
    """
    present = set(files(folder)) - {REPORT}
    for name in sorted(set(wanted) - present):
        raise WorkError(f"{folder / name} is missing since the export was verified")
    for name in sorted(present - set(wanted)):
        raise WorkError(f"{folder / name} was added since the export was verified")
    for name, digest in wanted.items():
        if sha256(folder / name) != digest:
            raise WorkError(f"{folder / name} was changed since the export was verified: its SHA-256 differs")


@contextlib.contextmanager
def staging(target: Path) -> Iterator[Path]:
    """Give an empty folder beside `target` to write to, which goes away unless it is installed.

    The folder's name is fixed and its lock ends with the process, so that what a killed export left is swept up by the
    next one, and two exports to one place do not mix.

    Raises:
        RequestError: The place cannot be written, is taken by something else, or another process writes there.
        WorkError: Writing failed on the way.
    """
    folder = target.with_name(f".{target.name}.new")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise RequestError(f"{target} cannot be written: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise RequestError(f"another process is exporting to {target}") from None
        try:
            _sweep(folder, target)
            yield folder
        except OSError as error:
            # HDF5 tells the same in several lines, with addresses.
            reason = os.strerror(error.errno) if error.errno else error
            raise WorkError(f"the export to {target} failed: {reason}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os.close(handle)


def _sweep(folder: Path, target: Path) -> None:
    """Undo what a killed export left half done, and make sure that nothing but an export will be replaced."""
    old = _old(target)
    if old.exists() and not target.exists():
        os.rename(old, target)
    shutil.rmtree(old, ignore_errors=True)
    for left in folder.iterdir():
        shutil.rmtree(left) if left.is_dir() else left.unlink()
    for place in (target, failed(target)):
        _refuse_foreign(place)


def _refuse_foreign(place: Path) -> None:
    """A former export may be replaced; what anyone else put there may not be lost."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not place.is_dir():
        raise RequestError(f"{place} is a file, and an export is a folder")
    if not (place / REPORT).is_file():
        raise RequestError(f"{place} is not empty and holds no export; name another folder")
    foreign = sorted(set(files(place)) - set(listed(read_report(place))) - {REPORT})
    if foreign:
        raise RequestError(f"{place / foreign[0]} is no part of the export there and would be lost; move it")


def install(folder: Path, target: Path) -> None:
    """Flush a whole folder to disk and give it its name; at every moment the old or the new one is there, whole."""
    for path in (*folder.rglob("*"), folder):
        flush(path)
    old = _old(target)
    if target.exists():
        os.rename(target, old)
    os.rename(folder, target)
    flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def failed(target: Path) -> Path:
    """Where an export goes that disagrees."""
    return target.with_name(f"{target.name}.failed")
