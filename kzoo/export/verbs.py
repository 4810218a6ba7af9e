"""The verbs: export a run, verify an export."""

import dataclasses
import shutil
from collections.abc import Iterable
from pathlib import Path

from kzoo.export.examination import examine
from kzoo.export.folders import check_bytes, failed, install, staging
from kzoo.export.formats import FORMATS
from kzoo.export.report import ExportReport, read_report
from kzoo.export.writing import Written, check_formats, write
from kzoo.files import sha256, write_json
from kzoo.run import Run
from kzoo.vetting.unchanged import REPORT, listed


def export(
    run: Run | str | Path, out: str | Path | None = None, formats: Iterable[str] | str | None = None
) -> ExportReport:
    """Write a run's chosen weights as artefacts, and verify each in a fresh process of its own runtime.

    Args:
        run: A run or its folder; it must have a checkpoint.
        out: The folder to write, ``export`` in the run's folder by default. A former export there is replaced, once the
            new one is whole and agrees.
        formats: Names of `kzoo.export.formats.FORMATS`; default: the recipe's.

    Returns:
        The report, which is also in ``verify.json``.

    Raises:
        RequestError: Unknown format, no such run, no checkpoint, or a folder that is not an export's to write.
        WorkError: An artefact could not be written or run, or disagrees with the run's network; what was written is
            then in ``<out>.failed``, with its report.
    """
    run = Run(run)
    formats = check_formats(run.recipe.export.formats if formats is None else formats)
    checkpoint, samples = run.weights, run.samples
    card = {**run.card, "run": sha256(checkpoint)}
    target = Path(out or run.path / "export").resolve()
    with staging(target) as folder:
        written = write(folder, run, card, checkpoint, samples, formats)
        identity = {"model": card["model"], "recipe": card.get("recipe", ""), "sha256": card["run"]}
        report = examine(folder, identity, written)
        write_json(folder / REPORT, report.as_dict())
        final = target if report.ok else failed(target)
        install(folder, final)
        if report.ok:
            shutil.rmtree(failed(target), ignore_errors=True)
    report = dataclasses.replace(report, folder=final)
    report.raise_unless_ok()
    return report


def verify(folder: str | Path) -> ExportReport:
    """Verify an export again: its bytes against ``verify.json``, then its answers in fresh processes.

    The folder may come from anyone: each artefact is looked at before its runtime opens it, see `kzoo.vetting`, and one
    that could do more than compute is not opened. What plain Keras builds of a file's configuration is not measured
    beforehand; it is built in a process of its own.

    Args:
        folder: A folder that `export` wrote. Nothing in it is changed.

    Returns:
        A new report.

    Raises:
        RequestError: The folder is no export.
        WorkError: A file was changed, removed or added, or an artefact cannot be run or disagrees.
    """
    folder = Path(folder)
    document = read_report(folder)
    check_bytes(folder, listed(document))
    known = {name: _known(name, figures) for name, figures in document["formats"].items()}
    report = examine(folder, document["run"], known)
    report.raise_unless_ok()
    return report


def _known(name: str, figures: dict) -> Written:
    """What a report says of a format, whose bytes are those that it was said of."""
    runtime = figures.get("opened_in", FORMATS[name].runtime)
    return Written(runtime, list(figures["signatures"]), figures.get("refused", {}), test=figures.get("test"))
