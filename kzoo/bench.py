"""Parameters, floating-point operations, latency and throughput of a model."""

import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from kzoo import registry
from kzoo.build import build
from kzoo.errors import RequestError
from kzoo.quiet import import_keras
from kzoo.run import Run, environment


@dataclass(frozen=True)
class Timing:
    """Inference at one batch size.

    Attributes:
        batch_size: Items in a call.
        p50_ms: Median time of a call, in milliseconds.
        p95_ms: 95th percentile, in milliseconds.
        items_per_second: Batch size over the median time.
        calls: Number of calls that were timed.
    """

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
        timings: One for each batch size.
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
    **arguments,
) -> Bench:
    """Measure a model by its name, or the model of a run.

    Args:
        name_or_run: A model's name, a run or a run's folder.
        batch_sizes: Sizes to time.
        seconds: How long each size is timed, after warming up; at least ten calls are made.
        **arguments: The builder's arguments, for a name.

    Raises:
        RequestError: There is no such model or run, or a batch size is below 1.
    """
    if not batch_sizes or min(batch_sizes) < 1 or not 0 < seconds < 3600:
        raise RequestError("bench takes batch sizes of at least 1 and a time above 0 and below 3600 seconds")
    name, arguments, weights = _subject(name_or_run, arguments)
    keras = import_keras()
    model = build(name, weights=weights, **arguments)
    call = _compiled(keras, model)
    timings = tuple(_time(call, model, size, seconds) for size in batch_sizes)
    return Bench(name, arguments, model.count_params(), _flops(keras, model), timings, environment())


def _subject(given: str | Path | Run, arguments: dict) -> tuple[str, dict, Path | None]:
    if isinstance(given, Run) or (str(given) not in registry.list_models() and Path(given).is_dir()):
        if arguments:
            raise RequestError("a run's arguments are those it was trained with; give a model's name to bench others")
        run = given if isinstance(given, Run) else Run(given)
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


def _compiled(keras, model):
    """The forward pass as one compiled call that waits for its result."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        forward = tf.function(lambda inputs: model(inputs, training=False), reduce_retracing=False)
    else:
        forward = model.predict_on_batch

    def call(inputs):
        outputs = forward(inputs[0] if len(inputs) == 1 else inputs)
        return keras.tree.map_structure(keras.ops.convert_to_numpy, outputs)

    return call


def _time(call, model, batch_size: int, seconds: float) -> Timing:
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
    return Timing(batch_size, round(p50 * 1e3, 3), round(p95 * 1e3, 3), round(batch_size / p50, 1), len(taken))


def _flops(keras, model) -> int | None:
    """Count by TensorFlow's profiler over the graph of one item."""
    if keras.backend.backend() != "tensorflow":
        return None
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    specs = [tf.TensorSpec([1, *(d or 64 for d in t.shape[1:])], t.dtype) for t in model.inputs]
    function = tf.function(lambda *inputs: model(inputs[0] if len(inputs) == 1 else list(inputs), training=False))
    graph = convert_variables_to_constants_v2(function.get_concrete_function(*specs)).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder(tf.compat.v1.profiler.ProfileOptionBuilder.float_operation())
    options = options.with_empty_output().build()
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops
