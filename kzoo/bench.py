"""Parameters, floating-point operations, latency and throughput of a model."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kzoo import registry
from kzoo.build import build, rebuild
from kzoo.errors import RequestError, nearest
from kzoo.machine import environment
from kzoo.quiet import import_keras
from kzoo.run import Run

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class Timing:
    """Calls of one kind at one batch size.

    Attributes:
        precision: Dtype policy of the model.
        mode: ``inference``; or ``training``: forward, backward from the mean square of the outputs, and an SGD update.
        batch_size: Items in a call.
        p50_ms: Median time of a call, in milliseconds.
        p95_ms: 95th percentile, in milliseconds.
        items_per_second: Batch size over the median time.
        calls: Number of calls that were timed.
    """

    precision: str
    mode: str
    batch_size: int
    p50_ms: float
    p95_ms: float
    items_per_second: float
    calls: int


@dataclass(frozen=True)
class Bench:
    """A model's cost.

    Attributes:
        model: Its name.
        arguments: The builder's arguments, defaults left out.
        parameters: Number of weights.
        flops: Floating-point operations of one item's forward pass, a multiply-add as two; None where the backend
            cannot count them.
        timings: One for each precision, mode and batch size.
        environment: Versions and hardware.
    """

    model: str
    arguments: dict
    parameters: int
    flops: int | None
    timings: tuple[Timing, ...]
    environment: dict

    def as_dict(self) -> dict:
        """Plain values, for JSON."""
        return asdict(self)


def bench(
    name_or_run: str | Path | Run,
    *,
    batch_sizes: tuple[int, ...] = (1, 8, 64),
    seconds: float = 1.0,
    precisions: tuple[str, ...] = (),
    training: bool = False,
    jit_compile: bool = False,
    **arguments,
) -> Bench:
    """Measure a model by its name, or the model of a run.

    Args:
        name_or_run: A model's name, a run or a run's folder.
        batch_sizes: Sizes to time.
        seconds: How long each size is timed, after warming up; at least ten calls are made.
        precisions: Dtype policies to time, of `PRECISIONS`; by default the one that the arguments say.
        training: Whether to time training steps as well.
        jit_compile: Whether XLA compiles the calls; for the TensorFlow backend.
        **arguments: The builder's arguments, for a name.

    Raises:
        RequestError: There is no such model or run, a batch size is below 1, or the builder knows no precision.
    """
    if not batch_sizes or min(batch_sizes) < 1 or not 0 < seconds < 3600:
        raise RequestError("bench takes batch sizes of at least 1 and a time above 0 and below 3600 seconds")
    for precision in precisions:
        if precision not in PRECISIONS:
            raise RequestError(f"there is no precision {precision!r}{nearest(precision, PRECISIONS)}")
    name, arguments, weights = check_subject(name_or_run, arguments)
    takes_policy = "dtype_policy" in {p.name for p in registry.find(name).parameters}
    if precisions and not takes_policy:
        raise RequestError(f"{name} has no argument dtype_policy, so that its precision cannot be chosen")
    keras = import_keras()
    timings = []
    for precision in precisions or (arguments.get("dtype_policy", "float32"),):
        chosen = {**arguments, "dtype_policy": precision} if takes_policy else arguments
        model = rebuild({"model": name, "arguments": chosen}, weights) if weights else build(name, **chosen)
        calls = {"inference": _compiled(keras, model, jit_compile)}
        if training:
            calls["training"] = _training_step(keras, model, jit_compile)
        timings += [
            _time(call, model, precision, mode, size, seconds) for mode, call in calls.items() for size in batch_sizes
        ]
    return Bench(name, arguments, model.count_params(), _flops(keras, model), tuple(timings), environment())


def check_subject(given: str | Path | Run, arguments: dict) -> tuple[str, dict, Path | None]:
    """Name, builder's arguments and weights of what is to be measured; weights are None for a model by its name.

    Raises:
        RequestError: There is no such model or run, the model has no such argument, or a run is given arguments.
    """
    if isinstance(given, Run) or (str(given) not in registry.list_models() and Path(given).is_dir()):
        if arguments:
            raise RequestError("a run's arguments are those it was trained with; give a model's name to bench others")
        run = Run(given)
        return run.card["model"], run.card["arguments"], run.weights
    return str(given), registry.check_arguments(str(given), arguments), None


def _example(model, batch_size: int) -> list[np.ndarray]:
    """Random inputs; dimensions that the model leaves open are taken as 64."""
    rng = np.random.default_rng(0)

    def one(tensor) -> np.ndarray:
        shape = [batch_size, *(d or 64 for d in tensor.shape[1:])]
        if "int" in str(tensor.dtype):
            return np.zeros(shape, tensor.dtype)
        return rng.normal(size=shape).astype("float32")

    return [one(t) for t in model.inputs]


def _given(model, inputs: list):
    """Inputs in the form that the model takes them in."""
    if isinstance(model.input, dict):
        return {t.name: value for t, value in zip(model.inputs, inputs, strict=True)}
    return inputs[0] if len(inputs) == 1 else inputs


def _training_step(keras, model, jit_compile: bool):
    """One step of Keras's own training loop, towards zero."""
    named = isinstance(model.output, dict)
    outputs = model.output if named else dict(enumerate(keras.tree.flatten(model.outputs)))
    outputs = {k: o for k, o in outputs.items() if "float" in str(o.dtype)}
    losses = dict.fromkeys(outputs, "mse") if named else ["mse"] * len(outputs) if len(outputs) > 1 else "mse"
    model.compile(keras.optimizers.SGD(1e-6), losses, jit_compile=jit_compile)

    def call(inputs):
        zeros = {k: np.zeros((len(inputs[0]), *(d or 64 for d in o.shape[1:])), "float32") for k, o in outputs.items()}
        targets = zeros if named else list(zeros.values()) if len(zeros) > 1 else zeros[0]
        return model.train_on_batch(_given(model, inputs), targets)

    return call


def _compiled(keras, model, jit_compile: bool):
    """The forward pass as one compiled call that waits for its result."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        forward = tf.function(
            lambda inputs: model(inputs, training=False), reduce_retracing=False, jit_compile=jit_compile or None
        )
    else:
        forward = model.predict_on_batch

    def call(inputs):
        outputs = forward(_given(model, inputs))
        return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)

    return call


def _time(call, model, precision: str, mode: str, batch_size: int, seconds: float) -> Timing:
    inputs = _example(model, batch_size)
    for _ in range(3):
        call(inputs)
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(taken) < 10:
        began = time.perf_counter()
        call(inputs)
        taken.append(time.perf_counter() - began)
    p50, p95 = np.percentile(taken, [50, 95])
    speed = round(batch_size / p50, 1)
    return Timing(precision, mode, batch_size, round(p50 * 1e3, 3), round(p95 * 1e3, 3), speed, len(taken))


def _flops(keras, model) -> int | None:
    """Count by TensorFlow's profiler over the graph of one item."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = [tf.TensorSpec([1, *(d or 64 for d in t.shape[1:])], t.dtype) for t in model.inputs]
    function = tf.function(lambda *inputs: model(_given(model, list(inputs)), training=False))
    graph = convert_variables_to_constants_v2(function.get_concrete_function(*specs)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    options = options.with_empty_output().build()
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
