"""Writes an export's files, and what the live network answers to the calls that will verify them."""

import contextlib
import io
import logging
import math
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import runtimes
from kzoo.build import rebuild
from kzoo.errors import RequestError, WorkError, first_line, nearest
from kzoo.export.formats import FORMATS, NETWORK, Subject
from kzoo.export.shared import Shared
from kzoo.files import write_json, write_text
from kzoo.quiet import import_keras
from kzoo.run import Run

BATCH_SIZES = (1, 3)  # and all examples at once
CALIBRATION = 256  # examples that ranges of activations are taken from
MOST_KEPT = 2**30  # bytes of layers' outputs that the live network may hold in a call
MOST_CALLS = 4  # of it for the examples of a door; where an example fills a call, there are as many examples


@dataclass
class Written:
    """What became of one format.

    Attributes:
        doors: The doors that it holds.
        refused: The reason by door that it cannot hold.
        runtime: What it is verified in.
        failure: Why there is no artefact, or None.
        cpu_seconds: What ``write`` took, and ``judge``, its figure on the test part.
        test: Its figure on the test part; see `kzoo.export.report.ExportReport`.
    """

    runtime: str
    doors: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    failure: str | None = None
    cpu_seconds: dict[str, float] = field(default_factory=dict)
    test: dict[str, Any] | None = None


def write(
    folder: Path, run: Run, card: dict, checkpoint: Path, samples: dict[str, np.ndarray], formats: tuple[str, ...]
) -> dict[str, Written]:
    """Write everything but the report.

    Args:
        folder: Where the files go.
        run: What is exported.
        card: The content of ``model.json``.
        checkpoint: The weights.
        samples: Raw inputs to verify with.
        formats: Names of formats.

    Returns:
        What became of each format.
    """
    keras = import_keras()
    for name in formats:
        FORMATS[name].check(name, keras.backend.backend())
    from kzoo import tasks
    from kzoo.export.judging import Judge

    judge = Judge(run)
    with keras.device("cpu:0"), _hushed(), tempfile.TemporaryDirectory(prefix="kzoo-") as scratch:
        model = rebuild(card, checkpoint)
        answers = tasks.open_answers(card)
        kinds = {FORMATS[name].doors for name in formats}
        signatures = answers.signatures(Shared(model), samples) if "saved_model" in kinds else {}
        numeric = answers.numeric_signatures(model, samples) if "numeric" in kinds else {}
        inputs, expected = _record(model, answers.network_inputs(samples), {**numeric, **signatures})
        _refuse_nan(expected, checkpoint)

        def calibrate(door):
            raw = judge.task.calibration(CALIBRATION)
            if door != NETWORK:
                return answers.numeric_signatures(model, raw)[door].example
            given = answers.network_inputs(raw)
            return given if isinstance(given, dict) else {model.inputs[0].name: given}

        subject = Subject(model, card, signatures, numeric, Path(scratch), calibrate)
        written = {}
        for name in formats:
            with timed() as seconds:
                written[name] = _save(subject, name, folder)
            written[name].cpu_seconds["write"] = seconds()
        for name in formats:
            if FORMATS[name].precision != "float32" and written[name].failure is None:
                with timed() as seconds:
                    judge.judge(model, card, folder / FORMATS[name].artefact, written[name])
                written[name].cpu_seconds["judge"] = seconds()
    write_json(folder / "model.json", card)
    if card.get("labels"):
        write_text(folder / "labels.txt", "".join(f"{label}\n" for label in card["labels"]))
    runtimes.write_calls(folder / "inputs.npz", inputs)
    runtimes.write_calls(folder / "expected.npz", expected)
    return written


def check_formats(formats) -> tuple[str, ...]:
    """The names of formats, each once.

    Raises:
        RequestError: One is unknown, or there is none.
    """
    formats = (formats,) if isinstance(formats, str) else tuple(dict.fromkeys(formats))
    for name in formats:
        if name not in FORMATS:
            raise RequestError(f"there is no export format {name!r}{nearest(name, FORMATS)}")
    if not formats:
        raise RequestError(f"an export needs at least one format{nearest('', FORMATS)}")
    return formats


def _save(subject: Subject, name: str, folder: Path) -> Written:
    kind = FORMATS[name]
    try:
        refused = kind.save(subject, folder / kind.artefact)
    except OSError:
        raise
    except Exception as error:  # a network that a format cannot hold is refused in that format's own way
        return Written(kind.runtime, failure=f"cannot be written: {first_line(error)}")
    return Written(kind.opened_in(subject), [d for d in kind.wanted(subject) if d not in refused], refused)


def _record(model, network_inputs, signatures: dict) -> tuple[runtimes.Calls, runtimes.Calls]:
    """The verification's calls, and what the live network answers to them, outside any graph."""
    import tensorflow as tf

    if not isinstance(network_inputs, dict):
        network_inputs = {model.inputs[0].name: network_inputs}
    rows = _rows_at_once(model)
    inputs = {NETWORK: _batches(network_inputs, set(network_inputs), MOST_CALLS * rows)}
    expected = {NETWORK: _answers(lambda values: runtimes.call_network(model, values), inputs[NETWORK], rows)}
    for name, signature in signatures.items():
        batched = {spec.name for spec in signature.inputs if spec.shape.rank and spec.shape[0] is None}
        inputs[name] = _batches(signature.example, batched, MOST_CALLS * rows)

        def call(values, signature=signature):
            return signature.function(*(tf.constant(values[s.name], s.dtype) for s in signature.inputs))

        # Where something is said once for all rows, as the seed of a text is, what a row gets depends on the others.
        alone = len(batched) == len(signature.inputs)
        expected[name] = _answers(call, inputs[name], rows if alone else None)
    return inputs, expected


def _answers(call: Callable, sizes: dict[int, runtimes.Arrays], rows: int | None) -> dict[int, runtimes.Arrays]:
    """Answers to the same examples in several batch sizes: of ``rows`` at a time, or if None of each batch as it is."""
    from keras import ops

    def answer(values):
        return {k: ops.convert_to_numpy(v) for k, v in call(values).items()}

    if rows is None:
        return {size: answer(values) for size, values in sizes.items()}
    count = max(sizes)
    pieces = [answer({k: v[i : i + rows] for k, v in sizes[count].items()}) for i in range(0, count, rows)]
    whole = {k: np.concatenate([piece[k] for piece in pieces]) for k in pieces[0]}
    return {size: {k: v[:size] for k, v in whole.items()} for size in sizes}


def _rows_at_once(model) -> int:
    """How many examples a call takes at once: outside a graph every layer's output is kept until the call ends."""
    import keras

    tensors = keras.tree.flatten([getattr(layer, "output", []) for layer in model.layers])
    return max(1, MOST_KEPT // sum(4 * math.prod(n or 1 for n in t.shape) for t in tensors))


def _refuse_nan(expected: runtimes.Calls, checkpoint: Path) -> None:
    """An artefact that answers NaN as faithfully as its network does would agree with it."""
    values = [v for sizes in expected.values() for named in sizes.values() for v in named.values()]
    if any(v.dtype.kind == "f" and np.isnan(v).any() for v in values):
        raise WorkError(f"the network of {checkpoint} answers real inputs with NaN, so it is not exported")


def _batches(example: dict[str, np.ndarray], batched: set[str], most: int) -> dict[int, runtimes.Arrays]:
    """The example's first rows as batches of several sizes; inputs that are no batch, such as a seed, stay whole."""
    count = min([len(example[name]) for name in batched] + [most])
    sizes = sorted({*(s for s in BATCH_SIZES if s < count), count}) if batched else [1]
    return {s: {name: np.asarray(v)[:s] if name in batched else v for name, v in example.items()} for s in sizes}


@contextlib.contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """Give a function that tells, once the block has ended, the CPU seconds that it and the processes it ran took.

    Unlike those by the clock they do not grow where other work shares the machine.
    """
    started = sum(os.times()[:4])
    ended: list[float] = []
    yield lambda: round(ended[0] - started, 2)
    ended.append(sum(os.times()[:4]))


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
