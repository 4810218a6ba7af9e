"""Batches that are a function of their step, as a ``tf.data.Dataset``, and what went wrong in making one."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from kzoo.errors import KzooError


def dataset(
    steps: range,
    batch: Callable[[int], tuple],
    arrays: Sequence[tuple[str, tuple[int | None, ...]]],
    *,
    finish: Callable[..., Any] | None = None,
    calls: int = 2,
    failures: list[KzooError] | None = None,
):
    """A ``tf.data.Dataset`` of the batches of consecutive steps, in order, made ahead of time.

    Args:
        steps: Numbers of the steps, one after the other.
        batch: From a step's number to a tuple of NumPy arrays; called from several threads.
        arrays: Dtype and shape of each of them, None for what differs from step to step.
        finish: From tensors of the arrays to an element; runs as a TensorFlow graph. By default the tuple is one.
        calls: Batches that are made at once.
        failures: Gets what `batch` raises; see `explained`.
    """
    import tensorflow as tf

    def guarded(step):
        try:
            return batch(int(step))
        except KzooError as error:
            if failures is not None:
                failures.append(error)
            raise

    def load(step):
        values = tf.numpy_function(guarded, [step], [tf.as_dtype(kind) for kind, _ in arrays], stateful=False)
        values = tuple(tf.ensure_shape(v, shape) for v, (_, shape) in zip(values, arrays, strict=True))
        return values if finish is None else finish(*values)

    numbers = tf.data.Dataset.range(steps.start, steps.stop)
    return numbers.map(load, num_parallel_calls=calls, deterministic=True).prefetch(4)


@contextlib.contextmanager
def explained(*failures: Sequence[KzooError]) -> Iterator[None]:
    """Raise what failed inside a pipeline, the first one's if it did, in its own words instead of TensorFlow's."""
    try:
        yield
    except Exception:
        for failure in (known[-1] for known in failures if known):
            raise failure from None
        raise
