"""Runs an export's artefacts, each in a fresh process of its own runtime, and compares their answers."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from kzoo import console, runtimes, vetting
from kzoo.comparison import compare
from kzoo.errors import RequestError
from kzoo.export import judging
from kzoo.export.folders import files, identify
from kzoo.export.formats import FORMATS
from kzoo.export.report import REPORT, ExportReport, line
from kzoo.export.writing import Written, timed
from kzoo.run import environment, now

TIMEOUT = 1800  # seconds for one artefact, after which its process counts as hung


def examine(folder: Path, run: dict, written: dict[str, Written]) -> ExportReport:
    """Run every artefact of a folder and compare.

    Args:
        folder: The export.
        run: What the report says of the run.
        written: What is known of each format.
    """
    expected, _ = runtimes.read_calls(folder / "expected.npz")
    figures = {}
    for name, known in written.items():
        with timed() as seconds:
            figures[name] = _examine_format(folder, name, expected, known)
        figures[name]["cpu_seconds"] = {**known.cpu_seconds, "verify": seconds()}
        console.say(line(name, figures[name]))
    names = {f for values in figures.values() for f in values["files"]}
    others = {f: identify(folder / f) for f in files(folder) if f not in names and f != REPORT}
    return ExportReport(folder, figures, others, run, now(), environment())


def _examine_format(folder: Path, name: str, expected: runtimes.Calls, known: Written) -> dict[str, Any]:
    kind = FORMATS[name]
    own = {f: identify(folder / f) for f in files(folder) if kind.owns(f)}
    figures = {"files": own, "bytes": sum(f["bytes"] for f in own.values()), "runtime": {}, "signatures": {}}
    figures |= {"opened_in": known.runtime, "refused": known.refused}
    if kind.precision != "float32":
        figures |= {"precision": kind.precision, "test": known.test}
    failure = known.failure
    if failure is None and not known.doors:
        failure = "was never verified"
    if failure is None and known.runtime == "tensorflow":
        failure = _vetted(folder / kind.artefact)
    if failure is None:
        answers, document, failure = _run_fresh(known.runtime, folder / kind.artefact, folder / "inputs.npz")
    if failure is not None:
        return {**figures, "ok": False, "error": failure}
    for door in known.doors:
        compared = compare(expected.get(door, {}), answers.get(door, {}), kind.precision)
        figures["signatures"][door] = {**compared, "latency_ms": document["latency_ms"].get(door)}
    ok = all(s["ok"] for s in figures["signatures"].values())
    if known.test is not None:
        ok = ok and judging.lost(known.test) <= known.test["allowed"]
    return {**figures, "runtime": document["versions"], "ok": ok, "error": None}


def _vetted(artefact: Path) -> str | None:
    """Why a SavedModel is not loaded, or None."""
    try:
        vetting.check_saved_model(artefact)
    except RequestError as error:
        return str(error)
    return None


def _run_fresh(runtime: str, artefact: Path, inputs: Path) -> tuple[runtimes.Calls, dict, str | None]:
    """Run an artefact in a process that imports only its runtime.

    Returns:
        The answers, a document with ``versions`` and ``latency_ms``, and the reason why there are none, or None.
    """
    settings = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    settings["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND", "tensorflow")
    with tempfile.TemporaryDirectory(prefix="kzoo-") as scratch:
        outputs = Path(scratch) / "outputs.npz"
        command = [sys.executable, "-I", runtimes.__file__, runtime, artefact.resolve(), inputs.resolve(), outputs]
        try:
            done = subprocess.run(
                [str(part) for part in command],
                env={**os.environ, **settings},
                cwd=scratch,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            return {}, {}, f"gave no answer in {TIMEOUT} s"
        if done.returncode:
            return {}, {}, _explain(runtime, done)
        return *runtimes.read_calls(outputs), None


def _explain(runtime: str, done: subprocess.CompletedProcess) -> str:
    """Show all that a failed process said, without banners, and return its last word."""
    said = done.stderr.decode(errors="replace")
    before, mark, traceback = said.partition("Traceback (most recent call last)")
    said = (mark + traceback if mark else before).rstrip()
    console.say(said)
    if done.returncode < 0:
        return f"ended {runtime} by signal {-done.returncode}"
    # An exception's message may go on over several lines, of which the first says what is wrong.
    words = [line for line in said.splitlines() if line[:1].strip() and ": " in line]
    kind, _, reason = (words or ["Error: no reason given"])[-1].partition(": ")
    if "Could not locate class" in reason:
        own = reason.partition("Could not locate class ")[2].partition(".")[0]
        return f"cannot be run in plain {runtime}, which has no layer {own}: it is the zoo's own"
    return f"cannot be run in plain {runtime}: {kind.rpartition('.')[2]}: {reason}"
