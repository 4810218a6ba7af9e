"""Networks no larger than the file whose weights they are to hold: a card may ask for any size.

A card (``model.json``) is a few words that come with the weights. Its arguments may say a billion units or layers, and
building such a network would take all memory before the first weight is compared.
"""

import contextlib
import math
from collections.abc import Iterator

from kzoo.errors import RequestError, first_line

# 8-bit weights make networks of four times their bytes; the rest is for what a format folds into others.
_FACTOR, _SPARE = 8, 1 << 20
# What a small variable counts: its name and its place take some 256 bytes of a file. It keeps endless loops short.
_LEAST = _FACTOR * 256


@contextlib.contextmanager
def no_larger_than(size: int, name: str) -> Iterator[None]:
    """Refuse to make more variables, within the block, than a file of this size can hold.

    Under TensorFlow each variable is measured before it takes memory. Other backends have no place to do so: there,
    only what does not fit into memory is refused.

    Args:
        size: Bytes of the file.
        name: What to call what asks for the variables.

    Raises:
        RequestError: They are more, or do not fit into memory.
    """
    import keras

    most = _FACTOR * size + _SPARE
    # What numbers that fit no memory, or no integer of the backend, are answered with.
    errors: tuple[type[Exception], ...] = (MemoryError, OverflowError, TypeError)
    with contextlib.ExitStack() as stack:
        if keras.backend.backend() == "tensorflow":
            import tensorflow as tf

            errors = (*errors, tf.errors.OpError)
            stack.enter_context(tf.variable_creator_scope(_counting(most, name)))
        try:
            yield
        except errors as error:
            raise RequestError(f"{name} asks for a network that cannot be made ({first_line(error)})") from None


def _counting(most: int, name: str):
    """A creator of variables that counts their bytes and refuses those that are too many."""
    import tensorflow as tf

    made = 0

    def create(next_creator, **arguments):
        nonlocal made
        made += max(_LEAST, _bytes(tf, arguments))
        if made > most:
            raise RequestError(f"{name} asks for a network larger than its weights, which fill at most {most:,} bytes")
        return next_creator(**arguments)

    return create


def _bytes(tf, arguments: dict) -> int:
    """What a variable will take, found in a graph, in which an initial value takes nothing."""
    value = arguments["initial_value"]
    if callable(value):
        with tf.Graph().as_default():
            value = tf.convert_to_tensor(value(), arguments.get("dtype"))
    return math.prod(value.shape) * tf.as_dtype(value.dtype).size
