"""Puts an export's SavedModel where a model server looks for it: ``<models>/<name>/<version>/``, a whole number.

TensorFlow Serving watches such a folder and takes the highest version, so that a version appears whole or not at all,
and what is there once is never changed.
"""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from kzoo import versions
from kzoo.errors import RequestError, WorkError
from kzoo.export.folders import check_bytes
from kzoo.export.formats import FORMATS
from kzoo.export.report import read_report
from kzoo.export.writing import check_formats
from kzoo.files import flush
from kzoo.run import Run
from kzoo.vetting.unchanged import listed

SAVED_MODEL = FORMATS["saved_model"].artefact


def publish(export: str | Path, models: str | Path, *, name: str | None = None, version: int | None = None) -> Path:
    """Copy an export's verified SavedModel to a model server's folder.

    Args:
        export: A folder that `kzoo.export` wrote; its bytes must be those that were verified.
        models: The server's folder (``--model_base_path`` without the model's name).
        name: The model's name there; default: the network's in the zoo.
        version: A whole number from 1; default: one more than the highest that is there.

    Returns:
        The new folder.

    Raises:
        RequestError: It is no export, has no SavedModel that agrees, or the version is there already.
        WorkError: A file of the export was changed, or copying failed.
    """
    export = Path(export)
    document = read_report(export)
    if not document["formats"].get("saved_model", {}).get("ok"):
        raise RequestError(f"{export} holds no verified SavedModel; export with --formats saved_model")
    check_bytes(export, listed(document))
    name = name or document["run"]["model"]
    check(models, name, version)
    folder = Path(models) / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            target = folder / str(version or max(versions.present(folder), default=0) + 1)
            check(models, name, int(target.name))
            staged = folder / f".{target.name}.new"
            shutil.rmtree(staged, ignore_errors=True)
            shutil.copytree(export / SAVED_MODEL, staged)
            for path in (*staged.rglob("*"), staged):
                flush(path)
            os.rename(staged, target)
            flush(folder)
    except OSError as error:
        raise WorkError(f"{export} could not be published in {folder}: {error}") from error
    return target


def check(models: str | Path, name: str | None, version: int | None) -> None:
    """See, before any slow work, whether a version could be published.

    Raises:
        RequestError: The name or the number is none that servers take, or the version is there already.
    """
    if name is not None:
        versions.check_name(name)
    if version is not None and not 1 <= version < 1 << 63:
        raise RequestError(f"a version is a whole number from 1, not {version}")
    if name is not None and version is not None and (Path(models) / name / str(version)).exists():
        raise RequestError(f"{Path(models) / name / str(version)} is there already, and a version is never replaced")


def check_run(run: str | Path, formats, models: str | Path, name: str | None, version: int | None) -> None:
    """See, before a run is exported, whether its SavedModel could be published.

    Raises:
        RequestError: As of `check`, or the formats have no SavedModel among them.
    """
    run = Run(run)
    formats = check_formats(run.recipe.export.formats if formats is None else formats)
    if "saved_model" not in formats:
        raise RequestError(f"what is published is the SavedModel: add it to the formats {', '.join(formats)}")
    check(models, name or run.recipe.model, version)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other publishers waiting; the lock ends with the process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
