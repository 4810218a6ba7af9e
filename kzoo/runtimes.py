"""Runs exported artefacts in the runtime that will serve them, in a process of its own.

`kzoo.export` runs this file by its path, ``python -I runtimes.py RUNTIME INPUTS.npz ARTEFACT OUTPUTS.npz ...``, so that
the process holds that runtime and numpy and nothing else: it is no import of kzoo. Another runtime is another opener
below. Each artefact's outputs are written before the next one is opened.

INPUTS and OUTPUTS hold calls: door -> batch size -> arrays by name. In the file an array's key is ``door/size/name``.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping

import numpy as np

Arrays = dict[str, np.ndarray]
Calls = dict[str, dict[int, Arrays]]

# The door of formats that hold nothing but the network; a SavedModel's doors are its signatures.
NETWORK = "network"
_DOCUMENT, _BYTES, _LENGTHS = "document", "#bytes", "#lengths"
# Long enough for a median that repeats, short enough to be no burden.
_REPEATS, _SECONDS = 50, 0.5


def write_calls(path: str | os.PathLike, calls: Calls, document: Mapping | None = None) -> None:
    """Write calls, and a JSON document beside them, as one npz without pickled objects."""
    arrays = {_DOCUMENT: np.frombuffer(json.dumps(document or {}).encode(), np.uint8)}
    for door, sizes in calls.items():
        for size, values in sizes.items():
            for name, value in values.items():
                arrays |= _stored(f"{door}/{size}/{name}", np.asarray(value))
    np.savez_compressed(path, **arrays)


def read_calls(path: str | os.PathLike) -> tuple[Calls, dict]:
    """Read what `write_calls` wrote.

    Raises:
        ValueError: An array would need unpickling.
    """
    calls: Calls = {}
    with np.load(path, allow_pickle=False) as archive:
        for key in archive.files:
            if key == _DOCUMENT or key.endswith(_BYTES):
                continue
            door, size, name = key.removesuffix(_LENGTHS).split("/", 2)
            values = calls.setdefault(door, {}).setdefault(int(size), {})
            values[name] = _strings(archive, key) if key.endswith(_LENGTHS) else archive[key]
        return calls, json.loads(archive[_DOCUMENT].tobytes())


def named(outputs) -> dict:
    """A network's outputs by name, whichever of Keras's forms they come in."""
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, list | tuple):
        return {f"output_{place}": value for place, value in enumerate(outputs)}
    return {"output": outputs}


def call_network(model, inputs: Mapping):
    """Call a Keras model with inputs by name, as it does at inference."""
    return named(model(next(iter(inputs.values())) if len(inputs) == 1 else dict(inputs), training=False))


def _stored(key: str, array: np.ndarray) -> Arrays:
    """Numbers as they are; strings as one run of bytes and a length each, since npz would pickle them."""
    if array.dtype.kind not in "OSU":
        return {key: array}
    pieces = [p if isinstance(p, bytes) else str(p).encode() for p in array.reshape(-1).tolist()]
    lengths = np.array([len(p) for p in pieces], np.int64).reshape(array.shape)
    return {key + _LENGTHS: lengths, key + _BYTES: np.frombuffer(b"".join(pieces), np.uint8)}


def _strings(archive, key: str) -> np.ndarray:
    lengths, joined = archive[key], archive[key.removesuffix(_LENGTHS) + _BYTES].tobytes()
    strings, start = np.empty(lengths.size, object), 0
    for place, length in enumerate(lengths.reshape(-1).tolist()):
        strings[place] = joined[start : start + length]
        start += length
    return strings.reshape(lengths.shape)


def _open_tensorflow(artefact: str) -> tuple[dict[str, Callable], tuple[str, ...]]:
    """Doors of a SavedModel, in plain TensorFlow."""
    sys.modules["keras"] = None  # from here on an import of Keras fails, TensorFlow's own included
    import tensorflow as tf

    loaded = tf.saved_model.load(artefact)

    def door(signature):
        # A signature lives as long as what `load` returned, which this closure therefore keeps.
        return lambda inputs, _kept=loaded: signature(**{k: tf.constant(v) for k, v in inputs.items()})

    doors = {name: door(signature) for name, signature in loaded.signatures.items()}
    assert not any(name.partition(".")[0] == "kzoo" for name in sys.modules)
    return doors, ("tensorflow",)


def _open_keras(artefact: str) -> tuple[dict[str, Callable], tuple[str, ...]]:
    """The network of a ``.keras`` or ``.h5`` file, in plain Keras."""
    import keras

    model = keras.saving.load_model(artefact, compile=False, safe_mode=True)
    assert not any(name.partition(".")[0] == "kzoo" for name in sys.modules)
    return {NETWORK: lambda inputs: call_network(model, inputs)}, ("keras", keras.backend.backend())


def _open_kzoo(artefact: str) -> tuple[dict[str, Callable], tuple[str, ...]]:
    """The network of a file that holds weights alone, or layers of the zoo, rebuilt by the zoo."""
    import kzoo

    model = kzoo.load(artefact)
    import keras

    return {NETWORK: lambda inputs: call_network(model, inputs)}, ("kzoo", "keras", keras.backend.backend())


def _open_onnxruntime(artefact: str) -> tuple[dict[str, Callable], tuple[str, ...]]:
    """The network of an ONNX file, and the doors in the files ``<its stem>-<door>.onnx`` beside it."""
    doors = open_onnx(artefact)
    _refuse_others("tensorflow", "keras", "kzoo", "onnx")
    return doors, ("onnxruntime",)


def _open_litert(artefact: str) -> tuple[dict[str, Callable], tuple[str, ...]]:
    """The signatures of a LiteRT file."""
    doors = open_litert(artefact)
    _refuse_others("tensorflow", "keras", "kzoo")
    return doors, ("ai_edge_litert",)


def _open_openvino(artefact: str) -> tuple[dict[str, Callable], tuple[str, ...]]:
    """The doors of a folder of OpenVINO's."""
    doors = open_openvino(artefact)
    _refuse_others("tensorflow", "keras", "kzoo", "onnx")
    return doors, ("openvino",)


class Runner:
    """One door of an artefact in its runtime: a function of arrays by name.

    Attributes:
        inputs: Shape of each array that it takes, by name; None where any size fits.
    """

    def __init__(self, call: Callable[[Mapping], Arrays], inputs: Mapping[str, tuple]):
        self._call, self.inputs = call, inputs

    def __call__(self, inputs: Mapping) -> Arrays:
        """Outputs by name."""
        return self._call(inputs)


def open_onnx(artefact: str | os.PathLike) -> dict[str, "Runner"]:
    """Doors of ONNX files as functions of arrays by name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors alone
    sessions = {
        door: onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        for door, path in onnx_files(artefact).items()
    }
    return {door: _onnx_runner(session, door == NETWORK) for door, session in sessions.items()}


def onnx_files(artefact: str | os.PathLike) -> dict[str, str]:
    """Path of each door: the file itself and those called ``<its stem>-<door>.onnx`` beside it."""
    stem, suffix = os.path.splitext(artefact)
    folder, start = os.path.split(stem)
    files = {NETWORK: os.fspath(artefact)}
    for name in sorted(os.listdir(folder or ".")):
        if name.startswith(f"{start}-") and name.endswith(suffix):
            files[name[len(start) + 1 : -len(suffix)]] = os.path.join(folder, name)
    return files


def _onnx_runner(session, network: bool) -> Runner:
    given = [o.name for o in session.get_outputs()]
    taken = {i.name: tuple(n if isinstance(n, int) else None for n in i.shape) for i in session.get_inputs()}

    def call(inputs):
        # What does not decide an output is no input of the graph.
        return _renamed(
            dict(zip(given, session.run(None, {k: inputs[k] for k in taken}), strict=True)), inputs, network
        )

    return Runner(call, taken)


def open_litert(artefact: str | os.PathLike) -> dict[str, "Runner"]:
    """Doors of a LiteRT file as functions of arrays by name."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=os.fspath(artefact), num_threads=os.cpu_count())
    names = interpreter.get_signature_list()
    return {name: _litert_runner(interpreter.get_signature_runner(name), name == NETWORK) for name in names}


def _litert_runner(runner, network: bool) -> Runner:
    taken = {
        name: tuple(int(n) if n >= 0 else None for n in details["shape_signature"])
        for name, details in runner.get_input_details().items()
    }
    return Runner(lambda inputs: _renamed(runner(**{k: np.asarray(inputs[k]) for k in taken}), inputs, network), taken)


def open_openvino(artefact: str | os.PathLike) -> dict[str, "Runner"]:
    """Doors of a folder of OpenVINO's as functions of arrays by name."""
    import openvino

    core, doors = openvino.Core(), {}
    for file in sorted(os.listdir(artefact)):
        name, suffix = os.path.splitext(file)
        if suffix == ".xml":
            # Without the hint it computes in bfloat16 where the processor can.
            settings = {"INFERENCE_PRECISION_HINT": "f32"}
            model = core.read_model(os.path.join(artefact, file))
            doors[name] = _openvino_runner(model, core.compile_model(model, "CPU", settings), name == NETWORK)
    return doors


def _openvino_runner(model, compiled, network: bool) -> Runner:
    # A compiled model has further names for what it merged.
    taken = {
        port.get_any_name(): tuple(None if n.is_dynamic else n.get_length() for n in port.get_partial_shape())
        for port in model.inputs
    }

    given = [port.get_any_name() for port in model.outputs]

    def call(inputs):
        found = compiled([np.asarray(inputs[k]) for k in taken])
        return _renamed({name: found[place].copy() for place, name in enumerate(given)}, inputs, network)

    return Runner(call, taken)


def litert_metadata(artefact: str | os.PathLike) -> dict[str, str]:
    """Metadata buffers of a LiteRT file, as text by name."""
    from ai_edge_litert import schema_py_generated as schema

    with open(artefact, "rb") as file:
        model = schema.Model.GetRootAs(file.read(), 0)
    found = {}
    for number in range(model.MetadataLength()):
        entry = model.Metadata(number)
        content = model.Buffers(entry.Buffer()).DataAsNumpy()
        if not isinstance(content, int):  # 0 stands for an empty buffer
            found[entry.Name().decode()] = content.tobytes().decode(errors="replace")
    return found


def _renamed(outputs: Arrays, inputs: Mapping, network: bool) -> Arrays:
    """Outputs under the live network's names: a graph calls an output ``<name>_next`` that has an input's name."""
    if network and len(outputs) == 1:
        return {"output": next(iter(outputs.values()))}
    return {k.removesuffix("_next") if k.removesuffix("_next") in inputs else k: v for k, v in outputs.items()}


def _refuse_others(*packages: str) -> None:
    loaded = {name.partition(".")[0] for name in sys.modules} & set(packages)
    assert not loaded, f"{sorted(loaded)} were imported"


RUNTIMES = {
    "tensorflow": _open_tensorflow,
    "keras": _open_keras,
    "kzoo": _open_kzoo,
    "onnxruntime": _open_onnxruntime,
    "litert": _open_litert,
    "openvino": _open_openvino,
}


def _latency(door: Callable, inputs: Mapping) -> float:
    """Median milliseconds of a call that was made once before, answer fetched."""
    times: list[float] = []
    while len(times) < _REPEATS and sum(times) < _SECONDS:
        started = time.perf_counter()
        _fetched(door(inputs))
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _fetched(outputs: Mapping) -> Arrays:
    return {name: np.asarray(value) for name, value in outputs.items()}


def _version(package: str) -> str:
    """A package's version; not all of them say it in their module."""
    from importlib import metadata

    found = getattr(sys.modules[package], "__version__", None) or metadata.version(package.replace("_", "-"))
    return found.partition("-")[0]  # OpenVINO adds its build


def _main(runtime: str, inputs: str, *places: str) -> None:
    """Run artefacts, each of which is followed by the place of its outputs."""
    calls, _ = read_calls(inputs)
    started = 0.0  # of the CPU's clock of this process, whose start the first artefact bears
    for artefact, outputs in zip(places[::2], places[1::2], strict=True):
        answers, document = _run(runtime, artefact, calls)
        ended = time.process_time()
        part = f"{outputs}.part.npz"
        write_calls(part, answers, {**document, "cpu_seconds": round(ended - started, 2)})
        os.replace(part, outputs)
        started = ended


def _run(runtime: str, artefact: str, calls: Calls) -> tuple[Calls, dict]:
    """Make every call for which the artefact has a door, and time the smallest of each door."""
    doors, packages = RUNTIMES[runtime](artefact)
    answers = {
        door: {size: _fetched(doors[door](values)) for size, values in sizes.items()}
        for door, sizes in calls.items()
        if door in doors
    }
    latency = {door: _latency(doors[door], calls[door][min(calls[door])]) for door in answers}
    versions = {"python": platform.python_version(), "numpy": np.__version__}
    versions |= {name: _version(name) for name in packages}
    return answers, {"versions": versions, "latency_ms": latency}


if __name__ == "__main__":
    _main(*sys.argv[1:])
