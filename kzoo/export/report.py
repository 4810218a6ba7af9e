"""What an export holds and how far it agrees, for files and for people."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kzoo.comparison import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCES
from kzoo.errors import RequestError, WorkError
from kzoo.export.formats import FORMATS
from kzoo.files import read_json
from kzoo.vetting.unchanged import REPORT, listed

_SCHEMA = 1
_COLUMNS = {
    "max_difference": ".1e",
    "mean_difference": ".1e",
    "tolerance": ".1e",
    "agreement": ".2%",
    "latency_ms": ".2f",
}


@dataclass(frozen=True)
class ExportReport:
    """What an export holds and how far its artefacts agree with the run's own network.

    Attributes:
        folder: Where the artefacts are.
        formats: For each format its ``files`` (``bytes`` and ``sha256`` by relative path), ``bytes`` in all,
            ``opened_in`` (a key of `kzoo.runtimes.RUNTIMES`), ``runtime`` (versions), ``signatures`` (figures by door),
            ``refused`` (the reason by door that the format cannot hold), ``cpu_seconds`` (what ``write``, ``judge``
            and ``verify`` took), ``ok``, and ``error``, which is None where the artefact could be run. Formats that are
            not float32 also have ``precision`` and ``test``: the ``figure`` that judges the task, on which ``split``,
            the artefact's ``value``, the float network's, ``float``, and how much worse is ``allowed``.
        files: ``bytes`` and ``sha256`` of the files beside the artefacts.
        run: ``model``, ``recipe``, and the ``sha256`` of the checkpoint.
        date: When the artefacts were compared.
        environment: Versions and hardware of the comparing process.
    """

    folder: Path
    formats: dict[str, dict[str, Any]]
    files: dict[str, dict[str, Any]]
    run: dict[str, Any]
    date: str
    environment: dict[str, Any]

    @property
    def ok(self) -> bool:
        """Whether every artefact could be run and agrees."""
        return all(figures["ok"] for figures in self.formats.values())

    def as_dict(self) -> dict[str, Any]:
        """The content of ``verify.json``."""
        return {
            "schema": _SCHEMA,
            "date": self.date,
            "ok": self.ok,
            "run": self.run,
            "tolerance": {
                "relative": RELATIVE_TOLERANCES["float32"],
                "absolute": ABSOLUTE_TOLERANCE,
                "relative_by_precision": RELATIVE_TOLERANCES,
            },
            "environment": self.environment,
            "files": self.files,
            "formats": self.formats,
        }

    def rows(self) -> list[list[str]]:
        """A table for people: its header, then a row for each format and signature; latency is for one input."""
        judged = any(figures.get("test") for figures in self.formats.values())
        head = ["format", "signature", "MB", "max difference", "mean difference", "tolerance", "agreement", "ms"]
        table = [[*head, *(["test"] if judged else []), "ok"]]
        for name, figures in self.formats.items():
            for signature, values in (figures["signatures"] or {"": {"ok": False}}).items():
                shown = [_shown(values.get(key), form) for key, form in _COLUMNS.items()]
                size, verdict = f"{figures['bytes'] / 1e6:.2f}", "yes" if values["ok"] else "NO"
                table.append([name, signature, size, *shown, *([_judged(figures)] if judged else []), verdict])
        return table

    def raise_unless_ok(self) -> None:
        """Raise what is wrong with the first format that is not ok.

        Raises:
            WorkError: There is one; the error's ``report`` is this report.
        """
        for name, figures in self.formats.items():
            if not figures["ok"]:
                error = WorkError(f"{name}: {fault(figures)} ({self.folder / FORMATS[name].artefact})")
                error.report = self
                raise error


def read_report(folder: Path) -> dict[str, Any]:
    """The content of ``verify.json``, checked as far as it is used.

    Raises:
        RequestError: The folder is no export, or one that this version does not read.
    """
    document = read_json(folder / REPORT)
    if document is None:
        reason = f"it holds no {REPORT}" if folder.is_dir() else "there is no such folder"
        raise RequestError(f"{folder} is not an export: {reason}")
    try:
        known = document["schema"] == _SCHEMA and document["run"] and set(document["formats"]) <= set(FORMATS)
        known = known and all(_is_known(name, figures) for name, figures in document["formats"].items())
        listed(document)
    except (KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise RequestError(f"{folder / REPORT} is not a report that this version of kzoo reads")
    return document


def _is_known(name: str, figures: dict) -> bool:
    """Whether a format's part says what is used of it, and names no other runtime than a file of that format has."""
    test = figures.get("test")
    judged = test is None or all(isinstance(test[key], float | int) for key in ("value", "float", "allowed"))
    judged = judged and (test is None or all(isinstance(test[key], str) for key in ("figure", "split")))
    own = figures.get("opened_in", "kzoo") in (FORMATS[name].runtime, "kzoo")
    return own and judged and isinstance(figures["signatures"], dict) and isinstance(figures.get("refused", {}), dict)


def fault(figures: dict) -> str:
    """What is wrong with a format that is not ok."""
    if figures["error"]:
        return figures["error"]
    wrong = [(d, s) for d, s in figures["signatures"].items() if not s["ok"]]
    if not wrong:
        test = figures["test"]
        return (
            f"its {test['figure']} on the {test['split']} part is {test['value']:.4f}, where the float network has "
            f"{test['float']:.4f}"
        )
    door, worst = wrong[0]
    if worst["max_difference"] is None:
        return f"{door} gives no {worst['output']} of the expected shape and type"
    if worst["max_difference"] > worst["tolerance"]:
        return f"{door} differs by {worst['max_difference']:.1e}, and {worst['tolerance']:.1e} is allowed"
    return f"{door} decides differently in {1 - worst['agreement']:.2%} of the cases"


def line(name: str, figures: dict) -> str:
    """One line on a format for someone who watches."""
    head = f"{FORMATS[name].artefact:<16} {figures['bytes'] / 1e6:8.2f} MB"
    if not figures["ok"]:
        return f"{head}  {fault(figures)}"
    worst = max(figures["signatures"].values(), key=lambda s: s["max_difference"] / s["tolerance"])
    gap = f"{worst['max_difference']:.1e} ({worst['tolerance']:.1e} allowed)" if worst["max_difference"] else "none"
    runtime = ", ".join(f"{k} {v}" for k, v in figures["runtime"].items() if k not in ("python", "numpy"))
    test = f", {figures['test']['figure']} {_judged(figures)}" if figures.get("test") else ""
    return f"{head}  difference {gap} in {runtime}{test}"


def _judged(figures: dict) -> str:
    """An artefact's figure on the test part beside the float network's."""
    test = figures.get("test")
    return f"{test['value']:.4f} (float {test['float']:.4f})" if test else "-"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
