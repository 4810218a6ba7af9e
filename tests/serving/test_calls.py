"""Whose fault a failed call of TensorFlow's is: SavedModels of others', saved and opened here."""

import numpy as np
import pytest
import tensorflow as tf

pytest.importorskip("uvicorn", reason="serving needs the extra serve")

from kzoo.serving.doors import open_doors
from kzoo.serving.refused import Refused


@pytest.fixture
def opened(tmp_path):
    """Saves a function as a SavedModel and gives its door."""

    def open_(function, *specs):
        module = tf.Module()
        module.serve = tf.function(function, input_signature=specs)
        tf.saved_model.save(module, str(tmp_path / "saved"), signatures={"serving_default": module.serve})
        return open_doors(tmp_path / "saved").doors["serving_default"]

    return open_


def strings(*values):
    return np.array(values, object)


def test_a_string_that_cannot_be_read_is_its_senders_fault(opened):
    door = opened(
        lambda text: {"number": tf.map_fn(tf.strings.to_number, text, fn_output_signature=tf.float32)},
        tf.TensorSpec([None], tf.string),
    )
    (name,) = door.inputs
    assert door.call({name: strings(b"1.5", b"2")})["number"].tolist() == [1.5, 2]
    with pytest.raises(Refused, match=rf"^the input '{name}' cannot be read: .*five$") as caught:
        door.call({name: strings(b"1.5", b"five")})
    assert caught.value.status == 400


def test_a_picture_that_cannot_be_decoded_is_its_senders_fault(opened):
    def size(encoded):
        decode = tf.image.decode_png
        return {
            "sum": tf.map_fn(
                lambda e: tf.reduce_sum(tf.cast(decode(e), tf.int32)), encoded, fn_output_signature=tf.int32
            )
        }

    door = opened(size, tf.TensorSpec([None], tf.string, "picture"))
    whole = tf.io.encode_png(np.full((4, 4, 1), 2, np.uint8)).numpy()
    assert door.call({"picture": strings(whole, whole)})["sum"].tolist() == [32, 32]
    for damaged in (b"", b"no picture", whole[:-20]):
        with pytest.raises(Refused, match=r"^the input 'picture' cannot be read: [^\n{}]{10,}$"):
            door.call({"picture": strings(whole, damaged)})


def test_what_fails_for_an_input_that_fits_is_the_models_fault(opened):
    door = opened(lambda x: {"second": tf.gather(x, [1])}, tf.TensorSpec([None], tf.float32, "x"))
    assert door.call({"x": np.array([1, 2], np.float32)})["second"].tolist() == [2]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"is not in \[0, 1\)"):
        door.call({"x": np.ones(1, np.float32)})


def test_a_fault_behind_the_reading_of_a_string_is_the_models(opened):
    """Also where both are in one graph, and the string was read well."""

    def second(text):
        return {"second": tf.gather(tf.strings.to_number(text), [1])}

    door = opened(second, tf.TensorSpec([None], tf.string, "text"))
    assert door.call({"text": strings(b"3", b"4")})["second"].tolist() == [4]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"is not in \[0, 1\)"):
        door.call({"text": strings(b"3")})


def test_a_shape_that_a_model_leaves_open_is_open_to_clients(opened):
    from kzoo.serving import protocol

    door = opened(lambda x: {"double": 2 * x}, tf.TensorSpec(None, tf.float32, "x"))
    assert door.inputs["x"].shape is None and not door.batched
    for value in (1.5, [[1.0, 2.0]], [[[0.5]]]):
        query = protocol.read({"inputs": {"x": value}}, {"serving_default": door})
        answer = protocol.write(query, door.call(query.inputs))
        assert answer == {"outputs": (2 * np.array(value)).tolist()}
