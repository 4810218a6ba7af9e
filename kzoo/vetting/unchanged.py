"""An artefact's bytes, compared with the report of the export that it lies in."""

from pathlib import Path

from kzoo.errors import RequestError
from kzoo.files import read_json, sha256

REPORT = "verify.json"


def listed(report: dict) -> dict[str, str]:
    """SHA-256 by relative path of all files that a report lists."""
    parts = [report["files"], *(figures["files"] for figures in report["formats"].values())]
    return {name: values["sha256"] for part in parts for name, values in part.items()}


def check_unchanged(artefact: Path) -> None:
    """Refuse an artefact of which a byte, or one of the card beside it, is another one than was verified.

    What was moved away from its report, or renamed, has nothing to be compared with.

    Raises:
        RequestError: A file differs, or the report is none.
    """
    artefact = artefact.resolve()
    report = artefact.parent / REPORT
    try:
        known = listed(read_json(report, {"files": {}, "formats": {}}))
    except (KeyError, TypeError, AttributeError):
        raise RequestError(f"{report} is no report of an export") from None
    for name, digest in known.items():
        path = artefact.parent / name
        own = name in (artefact.name, "model.json") or name.startswith((f"{artefact.name}/", f"{artefact.stem}-"))
        if own and path.is_file() and sha256(path) != digest:
            raise RequestError(f"{path} was changed since the export was verified: its SHA-256 is not that of {report}")
