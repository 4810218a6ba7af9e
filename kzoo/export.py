"""Run to artefacts, each run in its own runtime and compared with the model it came from.

An export is a folder: the artefacts, ``model.json`` (what ``kzoo.load`` needs beside weights), ``labels.txt``, the
calls with which the artefacts were verified (``inputs.npz``), what the run's own network answered (``expected.npz``),
and ``verify.json``, which holds the figures and the SHA-256 of every file.

All artefacts are float32, whatever the precision of the training. They are verified on the CPU: there float32 means
float32, where a GPU may round to 19 bits, and a serving process finds no GPU memory beside a training one.
"""

import contextlib
import fcntl
import io
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import console, runtimes
from kzoo.build import portable, rebuild
from kzoo.comparison import ABSOLUTE_TOLERANCE, RELATIVE_TOLERANCE, compare
from kzoo.errors import RequestError, WorkError, nearest
from kzoo.quiet import import_keras
from kzoo.run import Run, environment, now, read_json, sha256, write_json, write_text

# Format -> artefact's name in the folder, and the runtime that it is verified in.
FORMATS = {
    "h5": ("model.h5", "keras"),
    "keras": ("model.keras", "keras"),
    "weights_h5": ("model.weights.h5", "kzoo"),
    "saved_model": ("saved_model", "tensorflow"),
}

BATCH_SIZES = (1, 3)  # and all samples at once
TIMEOUT = 1800  # seconds for one artefact, after which its process counts as hung

_SCHEMA = 1
_REPORT = "verify.json"
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
            ``runtime`` (versions), ``signatures`` (figures by door), ``ok``, and ``error``, which is None where the
            artefact could be run.
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
            "tolerance": {"relative": RELATIVE_TOLERANCE, "absolute": ABSOLUTE_TOLERANCE},
            "environment": self.environment,
            "files": self.files,
            "formats": self.formats,
        }

    def rows(self) -> list[list[str]]:
        """A table for people: its header, then a row for each format and signature; latency is for one input."""
        table = [
            ["format", "signature", "MB", "max difference", "mean difference", "tolerance", "agreement", "ms", "ok"]
        ]
        for name, figures in self.formats.items():
            for signature, values in (figures["signatures"] or {"": {"ok": False}}).items():
                shown = [_shown(values.get(key), form) for key, form in _COLUMNS.items()]
                size, verdict = f"{figures['bytes'] / 1e6:.2f}", "yes" if values["ok"] else "NO"
                table.append([name, signature, size, *shown, verdict])
        return table


def export(
    run: Run | str | Path, out: str | Path | None = None, formats: Iterable[str] | str | None = None
) -> ExportReport:
    """Write a run's chosen weights as artefacts, and verify each in a fresh process of its own runtime.

    Args:
        run: A run or its folder; it must have a checkpoint.
        out: The folder to write, ``export`` in the run's folder by default. A former export there is replaced, once the
            new one is whole and agrees.
        formats: Names of `FORMATS`; default: the recipe's.

    Returns:
        The report, which is also in ``verify.json``.

    Raises:
        RequestError: Unknown format, no such run, no checkpoint, or a folder that is not an export's to write.
        WorkError: An artefact could not be written or run, or disagrees with the run's network; what was written is
            then in ``<out>.failed``, with its report.
    """
    run = run if isinstance(run, Run) else Run(run)
    formats = _check_formats(run.recipe.export.formats if formats is None else formats)
    checkpoint, samples = run.weights, run.samples
    card = {**run.card, "run": sha256(checkpoint)}
    target = Path(out or run.path / "export").resolve()
    with _staging(target) as folder:
        failures = _write(folder, card, checkpoint, samples, formats)
        report = _examine(folder, formats, _identity(card), failures)
        write_json(folder / _REPORT, report.as_dict())
        final = target if report.ok else _failed(target)
        _install(folder, final)
        if report.ok:
            shutil.rmtree(_failed(target), ignore_errors=True)
    report = ExportReport(**{**vars(report), "folder": final})
    _raise_unless_ok(report)
    return report


def verify(folder: str | Path) -> ExportReport:
    """Verify an export again: its bytes against ``verify.json``, then its answers in fresh processes.

    A SavedModel can run any code when it is loaded, so verify only exports whose origin you trust.

    Args:
        folder: A folder that `export` wrote. Nothing in it is changed.

    Returns:
        A new report.

    Raises:
        RequestError: The folder is no export.
        WorkError: A file was changed, removed or added, or an artefact cannot be run or disagrees.
    """
    folder = Path(folder)
    document = _read_report(folder)
    _check_bytes(folder, _listed(document))
    report = _examine(folder, tuple(document["formats"]), document["run"], {})
    _raise_unless_ok(report)
    return report


# --- what is asked for --------------------------------------------------------------------------------------------


def _check_formats(formats: Iterable[str] | str) -> tuple[str, ...]:
    formats = (formats,) if isinstance(formats, str) else tuple(dict.fromkeys(formats))
    for name in formats:
        if name not in FORMATS:
            raise RequestError(f"there is no export format {name!r}{nearest(name, FORMATS)}")
    if not formats:
        raise RequestError(f"an export needs at least one format{nearest('', FORMATS)}")
    return formats


def _identity(card: dict) -> dict[str, Any]:
    return {"model": card["model"], "recipe": card.get("recipe", ""), "sha256": card["run"]}


def _read_report(folder: Path) -> dict[str, Any]:
    """The content of ``verify.json``, checked as far as it is used."""
    document = read_json(folder / _REPORT)
    if document is None:
        reason = f"it holds no {_REPORT}" if folder.is_dir() else "there is no such folder"
        raise RequestError(f"{folder} is not an export: {reason}")
    try:
        known = document["schema"] == _SCHEMA and document["run"] and set(document["formats"]) <= set(FORMATS)
        _listed(document)
    except (KeyError, TypeError, AttributeError):
        known = False
    if not known:
        raise RequestError(f"{folder / _REPORT} is not a report that this version of kzoo reads")
    return document


# --- artefacts ----------------------------------------------------------------------------------------------------


def _write(folder: Path, card: dict, checkpoint: Path, samples: dict, formats: tuple[str, ...]) -> dict[str, str]:
    """Write everything but the report.

    Returns:
        For each format that could not be written the reason.
    """
    keras = import_keras()
    if "saved_model" in formats and keras.backend.backend() != "tensorflow":
        raise RequestError(f"saved_model needs KERAS_BACKEND=tensorflow, not {keras.backend.backend()}")
    from kzoo import tasks

    with keras.device("cpu:0"), _hushed():
        model = rebuild(card, checkpoint)
        answers = tasks.open_answers(card)
        signatures = answers.signatures(model, samples) if "saved_model" in formats else {}
        inputs, expected = _record(model, answers.network_inputs(samples), signatures)
        _refuse_nan(expected, checkpoint)
        failures = {}
        for name in formats:
            try:
                _save(name, model, signatures, folder / FORMATS[name][0])
            except OSError:
                raise
            except Exception as error:  # a network that a format cannot hold is refused in that format's own way
                failures[name] = f"cannot be written: {_first_line(error)}"
    write_json(folder / "model.json", card)
    if card.get("labels"):
        write_text(folder / "labels.txt", "".join(f"{label}\n" for label in card["labels"]))
    runtimes.write_calls(folder / "inputs.npz", inputs)
    runtimes.write_calls(folder / "expected.npz", expected)
    return failures


def _save(name: str, model, signatures: dict, path: Path) -> None:
    if name == "saved_model":
        _save_signatures(signatures, path)
    elif name == "weights_h5":
        model.save_weights(path)
    elif name == "h5":
        # With its optimiser a legacy file could be loaded but not trained further, so it is written without.
        portable(model).save(path, include_optimizer=False)
    else:
        portable(model).save(path)


def _save_signatures(signatures: dict, path: Path) -> None:
    """Write a SavedModel of the signatures and the variables that they use.

    Keras's own exporter tracks the whole model beside them and stores every weight twice (keras#23553).
    """
    import tensorflow as tf

    # Autograph would rewrite Keras's Python code; the tasks' functions are TensorFlow operations already.
    doors = {
        name: tf.function(s.function, input_signature=s.inputs, autograph=False).get_concrete_function()
        for name, s in signatures.items()
    }
    module = tf.Module(name="kzoo")
    module.weights = list({id(v): v for door in doors.values() for v in door.variables}.values())
    tf.saved_model.save(module, str(path), signatures=doors)


def _record(model, network_inputs, signatures: dict) -> tuple[runtimes.Calls, runtimes.Calls]:
    """The verification's calls, and what the live network answers to them, outside any graph."""
    import keras
    import tensorflow as tf

    if not isinstance(network_inputs, dict):
        network_inputs = {model.inputs[0].name: network_inputs}
    inputs = {runtimes.NETWORK: _batches(network_inputs, set(network_inputs))}
    expected = {runtimes.NETWORK: {}}
    for size, values in inputs[runtimes.NETWORK].items():
        answered = runtimes.call_network(model, values)
        expected[runtimes.NETWORK][size] = {k: keras.ops.convert_to_numpy(v) for k, v in answered.items()}
    for name, signature in signatures.items():
        batched = {spec.name for spec in signature.inputs if spec.shape.rank and spec.shape[0] is None}
        inputs[name] = _batches(signature.example, batched)
        expected[name] = {}
        for size, values in inputs[name].items():
            tensors = [tf.constant(values[spec.name], spec.dtype) for spec in signature.inputs]
            expected[name][size] = {k: np.asarray(v) for k, v in signature.function(*tensors).items()}
    return inputs, expected


def _refuse_nan(expected: runtimes.Calls, checkpoint: Path) -> None:
    """An artefact that answers NaN as faithfully as its network does would agree with it."""
    values = [v for sizes in expected.values() for named in sizes.values() for v in named.values()]
    if any(v.dtype.kind == "f" and np.isnan(v).any() for v in values):
        raise WorkError(f"the network of {checkpoint} answers real inputs with NaN, so it is not exported")


def _batches(example: dict[str, np.ndarray], batched: set[str]) -> dict[int, runtimes.Arrays]:
    """The example's first rows as batches of several sizes; inputs that are no batch, such as a seed, stay whole."""
    count = min((len(example[name]) for name in batched), default=1)
    sizes = sorted({*(s for s in BATCH_SIZES if s < count), count}) if batched else [1]
    return {s: {name: np.asarray(v)[:s] if name in batched else v for name, v in example.items()} for s in sizes}


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Keep off the terminal what Keras and TensorFlow remark on saving."""
    remarks = logging.getLogger("absl")
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        remarks.setLevel(level)


# --- verification -------------------------------------------------------------------------------------------------


def _examine(folder: Path, formats: tuple[str, ...], run: dict, failures: dict[str, str]) -> ExportReport:
    """Run every artefact of a folder and compare."""
    expected, _ = runtimes.read_calls(folder / "expected.npz")
    figures = {}
    for name in formats:
        figures[name] = _examine_format(folder, name, expected, failures.get(name))
        console.say(_line(name, figures[name]))
    names = {f for values in figures.values() for f in values["files"]}
    others = {f: _identify(folder / f) for f in _files(folder) if f not in names and f != _REPORT}
    return ExportReport(folder, figures, others, run, now(), environment())


def _examine_format(folder: Path, name: str, expected: runtimes.Calls, failure: str | None) -> dict[str, Any]:
    artefact, runtime = FORMATS[name]
    files = {f: _identify(folder / f) for f in _files(folder) if f.partition("/")[0] == artefact}
    figures = {"files": files, "bytes": sum(f["bytes"] for f in files.values()), "runtime": {}, "signatures": {}}
    if failure is None:
        answers, document, failure = _run_fresh(runtime, folder / artefact, folder / "inputs.npz")
    if failure is not None:
        return {**figures, "ok": False, "error": failure}
    doors = [d for d in expected if (d == runtimes.NETWORK) == (runtime != "tensorflow")]
    for door in doors:
        compared = compare(expected[door], answers.get(door, {}))
        figures["signatures"][door] = {**compared, "latency_ms": document["latency_ms"].get(door)}
    ok = all(s["ok"] for s in figures["signatures"].values())
    return {**figures, "runtime": document["versions"], "ok": ok, "error": None}


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
    return f"cannot be run in plain {runtime}: {kind.rpartition('.')[2]}: {reason}"


def _raise_unless_ok(report: ExportReport) -> None:
    for name, figures in report.formats.items():
        if not figures["ok"]:
            error = WorkError(f"{name}: {_fault(figures)} ({report.folder / FORMATS[name][0]})")
            error.report = report
            raise error


def _fault(figures: dict) -> str:
    """What is wrong with a format that is not ok."""
    if figures["error"]:
        return figures["error"]
    door, worst = next((d, s) for d, s in figures["signatures"].items() if not s["ok"])
    if worst["max_difference"] is None:
        return f"{door} gives no {worst['output']} of the expected shape and type"
    if worst["max_difference"] > worst["tolerance"]:
        return f"{door} differs by {worst['max_difference']:.1e}, and {worst['tolerance']:.1e} is allowed"
    return f"{door} decides differently in {1 - worst['agreement']:.2%} of the cases"


def _shown(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _line(name: str, figures: dict) -> str:
    head = f"{FORMATS[name][0]:<16} {figures['bytes'] / 1e6:8.2f} MB"
    if not figures["ok"]:
        return f"{head}  {_fault(figures)}"
    worst = max(figures["signatures"].values(), key=lambda s: s["max_difference"] / s["tolerance"])
    gap = f"{worst['max_difference']:.1e} ({worst['tolerance']:.1e} allowed)" if worst["max_difference"] else "none"
    runtime = ", ".join(f"{k} {v}" for k, v in figures["runtime"].items() if k not in ("python", "numpy"))
    return f"{head}  difference {gap} in {runtime}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


# --- bytes and folders --------------------------------------------------------------------------------------------


def _files(folder: Path) -> list[str]:
    """Everything in a folder that is no folder, relative to it; links are named and not followed."""
    found = (p for p in folder.rglob("*") if p.is_symlink() or not p.is_dir())
    return sorted(p.relative_to(folder).as_posix() for p in found)


def _identify(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": sha256(path)}


def _listed(document: dict) -> dict[str, str]:
    """SHA-256 by relative path of all files that a report lists."""
    parts = [document["files"], *(figures["files"] for figures in document["formats"].values())]
    return {name: values["sha256"] for part in parts for name, values in part.items()}


def _check_bytes(folder: Path, listed: dict[str, str]) -> None:
    present = set(_files(folder)) - {_REPORT}
    for name in sorted(set(listed) - present):
        raise WorkError(f"{folder / name} is missing since the export was verified")
    for name in sorted(present - set(listed)):
        raise WorkError(f"{folder / name} was added since the export was verified")
    for name, digest in listed.items():
        if sha256(folder / name) != digest:
            raise WorkError(f"{folder / name} was changed since the export was verified: its SHA-256 differs")


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
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
            raise WorkError(f"the export to {target} failed: {error}") from error
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
    for place in (target, _failed(target)):
        _refuse_foreign(place)


def _refuse_foreign(place: Path) -> None:
    """A former export may be replaced; what anyone else put there may not be lost."""
    if not place.exists() or (place.is_dir() and not any(place.iterdir())):
        return
    if not place.is_dir():
        raise RequestError(f"{place} is a file, and an export is a folder")
    if not (place / _REPORT).is_file():
        raise RequestError(f"{place} is not empty and holds no export; name another folder")
    foreign = sorted(set(_files(place)) - set(_listed(_read_report(place))) - {_REPORT})
    if foreign:
        raise RequestError(f"{place / foreign[0]} is no part of the export there and would be lost; move it")


def _install(folder: Path, target: Path) -> None:
    """Flush a whole folder to disk and give it its name; at every moment the old or the new one is there, whole."""
    for path in (*folder.rglob("*"), folder):
        _flush(path)
    old = _old(target)
    if target.exists():
        os.rename(target, old)
    os.rename(folder, target)
    _flush(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _old(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def _failed(target: Path) -> Path:
    return target.with_name(f"{target.name}.failed")
