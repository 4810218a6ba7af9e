"""Imports Keras and TensorFlow without their start-up banners."""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterator


def import_keras():
    """Import Keras and its backend, which takes seconds, without a line on standard error.

    Four of TensorFlow's start-up lines are written by C++ before any log level applies, so file descriptor 2 is
    turned away during the first import. A failing import is raised with all that it printed.

    Returns:
        The ``keras`` module.
    """
    if "keras" in sys.modules:
        return sys.modules["keras"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with stderr_aside():
        if os.environ["KERAS_BACKEND"] == "tensorflow":
            import tensorflow as tf

            # absl's own pre-initialisation lines come with the first logged event, not with the import.
            tf.config.list_physical_devices()
            tf.get_logger().setLevel("ERROR")
        keras = importlib.import_module("keras")
    return keras


@contextlib.contextmanager
def stderr_aside() -> Iterator[None]:
    """Turn file descriptor 2 away, where C++ writes past Python; what was written is told if the block raises."""
    import tempfile

    with tempfile.TemporaryFile() as sink:
        sys.stderr.flush()
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            if failed:
                sink.seek(0)
                sys.stderr.write(sink.read().decode(errors="replace"))
