"""Runs an export's artefacts in fresh processes, one for each runtime, and compares their answers."""

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
from kzoo.export.report import ExportReport, line
from kzoo.export.writing import Written
from kzoo.machine import environment, now
from kzoo.vetting.unchanged import REPORT

TIMEOUT = 1800  # seconds for one artefact, after which its process counts as hung


def examine(folder: Path, run: dict, written: dict[str, Written]) -> ExportReport:
    """Run every artefact of a folder and compare.

    Args:
        folder: The export.
        run: What the report says of the run.
        written: What is known of each format.
    """
    _, expected = (_calls(folder / name) for name in ("inputs.npz", "expected.npz"))
    failures = {name: _failure(folder, name, known) for name, known in written.items()}
    answered = {}
    for runtime in dict.fromkeys(known.runtime for known in written.values()):
        names = [n for n, known in written.items() if known.runtime == runtime and failures[n] is None]
        answered |= _run_fresh(runtime, {n: folder / FORMATS[n].artefact for n in names}, folder / "inputs.npz")
    figures = {}
    for name, known in written.items():
        found = answered.get(name) or ({}, {}, failures[name])
        figures[name] = _figures(folder, name, expected, known, *found)
        console.say(line(name, figures[name]))
    names = {f for values in figures.values() for f in values["files"]}
    others = {f: identify(folder / f) for f in files(folder) if f not in names and f != REPORT}
    return ExportReport(folder, figures, others, run, now(), environment())


def _failure(folder: Path, name: str, known: Written) -> str | None:
    """Why an artefact is not run, or None."""
    if known.failure is not None:
        return known.failure
    if not known.doors:
        return "was never verified"
    return _refused(folder / FORMATS[name].artefact)


def _figures(folder, name, expected, known: Written, answers, document: dict, failure: str | None) -> dict[str, Any]:
    """A format's part of the report."""
    kind = FORMATS[name]
    own = {f: identify(folder / f) for f in files(folder) if kind.owns(f)}
    figures = {"files": own, "bytes": sum(f["bytes"] for f in own.values()), "runtime": {}, "signatures": {}}
    figures |= {"opened_in": known.runtime, "refused": known.refused}
    figures["cpu_seconds"] = {**known.cpu_seconds, "verify": document.get("cpu_seconds", 0.0)}
    if kind.precision != "float32":
        figures |= {"precision": kind.precision, "test": known.test}
    if failure is not None:
        return {**figures, "ok": False, "error": failure}
    for door in known.doors:
        compared = compare(expected.get(door, {}), answers.get(door, {}), kind.precision)
        figures["signatures"][door] = {**compared, "latency_ms": document["latency_ms"].get(door)}
    ok = all(s["ok"] for s in figures["signatures"].values())
    if known.test is not None:
        ok = ok and judging.lost(known.test) <= known.test["allowed"]
    return {**figures, "runtime": document["versions"], "ok": ok, "error": None}


def _refused(artefact: Path) -> str | None:
    """Why an artefact is not opened, or None: a folder that is verified may come from anyone."""
    try:
        vetting.check(artefact)
    except RequestError as error:
        return str(error)
    except ModuleNotFoundError as error:
        return f"cannot be looked at before it is opened: {error.name} is not installed"
    return None


def _calls(path: Path) -> runtimes.Calls:
    """The calls in a file of an export.

    Raises:
        RequestError: It holds none, or more than it may.
    """
    vetting.check_arrays(path, vetting.MOST_CALLS)
    try:
        return runtimes.read_calls(path)[0]
    except Exception as error:  # a file that was made by others may lack anything
        raise RequestError(f"{path} holds no calls to verify with ({type(error).__name__}: {error})") from None


Answered = tuple[runtimes.Calls, dict, str | None]


def _run_fresh(runtime: str, artefacts: dict[str, Path], inputs: Path) -> dict[str, Answered]:
    """Run artefacts one after the other in a process that imports only their runtime.

    Returns:
        For each its answers, a document with ``versions``, ``latency_ms`` and ``cpu_seconds``, and the reason why there
        are none, or None. What comes after one that failed runs in a process of its own.
    """
    found: dict[str, Answered] = {}
    while pending := {name: path for name, path in artefacts.items() if name not in found}:
        with tempfile.TemporaryDirectory(prefix="kzoo-") as scratch:
            outputs = {name: Path(scratch) / f"{name}.npz" for name in pending}
            failure = _run_process(runtime, [(pending[name], outputs[name]) for name in pending], inputs, scratch)
            for name, path in outputs.items():
                if path.is_file():
                    found[name] = (*runtimes.read_calls(path), None)
                else:
                    found[name] = ({}, {}, failure or "gave no answer")
                    break
    return found


def _run_process(runtime: str, pairs: list[tuple[Path, Path]], inputs: Path, scratch: str) -> str | None:
    """One process for pairs of artefacts and outputs; why it ended early, or None."""
    settings = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
    settings["KERAS_BACKEND"] = os.environ.get("KERAS_BACKEND", "tensorflow")
    places = [place for artefact, outputs in pairs for place in (artefact.resolve(), outputs)]
    command = [sys.executable, "-I", runtimes.__file__, runtime, inputs.resolve(), *places]
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **settings},
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT * len(pairs),
        )
    except subprocess.TimeoutExpired:
        return f"gave no answer in {TIMEOUT} s"
    return _explain(runtime, done) if done.returncode else None


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
