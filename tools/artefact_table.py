"""The table of artefacts: every format of some runs, verified or refused with its reason, as Markdown.

    python tools/artefact_table.py RUN... [--formats NAME,...] [--out docs/artefacts.md]

Each run is exported to a temporary folder in all formats; runs of several dtype policies make rows of their own. The
exit code is 1 if a cell is neither verified nor refused with a reason.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import kzoo
from kzoo.export import FORMATS
from kzoo.run import environment, now

HEADER = ["model", "trained in", "format", "MB", "doors", "max difference", "agreement", "ms", "figure (float)", "cell"]


def cells(run: kzoo.Run, formats: list[str]) -> tuple[list[list[str]], float]:
    """Rows of one run, and how many seconds its export took."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            report = kzoo.export(run, out=Path(folder) / "export", formats=formats)
        except kzoo.WorkError as error:
            report = getattr(error, "report", None)
            if report is None:
                raise
    seconds = time.perf_counter() - started
    head = [run.recipe.model, run.recipe.arguments.get("dtype_policy", "float32")]
    return [[*head, name, *row(figures)] for name, figures in report.formats.items()], seconds


def row(figures: dict) -> list[str]:
    """One format's cells."""
    doors, test = figures["signatures"], figures.get("test")
    judged = f"{test['figure']} {test['value']:.4f} ({test['float']:.4f})" if test else ""
    size = f"{figures['bytes'] / 1e6:.2f}"
    refused = "; ".join(f"no {door}: {reason}" for door, reason in figures.get("refused", {}).items())
    if figures["ok"]:
        worst = max(doors.values(), key=lambda s: s["max_difference"] / s["tolerance"])
        agreement = min((s["agreement"] for s in doors.values() if s["agreement"] is not None), default=None)
        shown = "" if agreement is None else f"{agreement:.1%}"
        latency = f"{next(iter(doors.values()))['latency_ms']:.2f}"
        cell = "verified" + (f" ({refused})" if refused else "")
        return [size, " ".join(doors), f"{worst['max_difference']:.1e}", shown, latency, judged, cell]
    from kzoo.export.report import fault

    return [size, " ".join(doors), "", "", "", judged, f"refused: {fault(figures)}"]


def main() -> int:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows, times = [], []
    for path in given.runs:
        run = kzoo.Run(path)
        found, seconds = cells(run, given.formats.split(","))
        rows += found
        times.append(f"- {run.recipe.model} ({run.origin.get('recipe', '')}): {seconds:.0f} s")
    machine = environment()
    lines = ["| " + " | ".join(r).replace("\n", " ") + " |" for r in (HEADER, ["---"] * len(HEADER), *rows)]
    text = "\n".join(
        [
            f"Made by `tools/artefact_table.py`, {now()[:10]}, {machine['processor']}, {machine['cores']} cores. The "
            "figure is that of the test part, the float network's in brackets; ms are for one input.",
            "",
            *lines,
            "",
            "Export of all these formats, verification included:",
            "",
            *times,
            "",
        ]
    )
    if given.out:
        given.out.write_text(text, "utf-8")
    else:
        print(text)
    return int(any(not r[-1].startswith(("verified", "refused: ")) for r in rows))


if __name__ == "__main__":
    sys.exit(main())
