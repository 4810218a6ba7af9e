"""Requests of TensorFlow Serving's REST form, to arrays and back."""

import base64
import tracemalloc

import numpy as np
import pytest

from kzoo.ranges import Range
from kzoo.serving import limits, protocol
from kzoo.serving.doors import Door, Spec
from kzoo.serving.protocol import Query
from kzoo.serving.refused import Refused


def nested(depth):
    """An "a" in so many lists."""
    found = "a"
    for _ in range(depth):
        found = [found]
    return found


def door(**inputs):
    return Door({k: Spec(*v) for k, v in inputs.items()}, {}, lambda given: given)


DOORS = {
    "serving_default": door(image=("float32", (None, 2, 2))),
    "images": door(images=("uint8", (None, None, None, 1))),
    "bytes": door(encoded=("string", (None,))),
    "two": door(token=("int32", (None,)), state=("float32", (None, 3))),
    "waves": door(wave=("complex64", (None,))),
    "generate": door(prompt=("string", (None,)), length=("int32", ()), temperature=("float32", (), Range(0, 2))),
    "tokens": door(tokens=("int32", (None, None), Range(0, 9, whole=True))),
    "cache": door(position=("int32", (None,)), cache=("float32", (None, None, 3))),
    "pairs": door(pair=("string", (None, 2))),
    "anything": door(x=("float32", None), text=("string", None)),
}
SQUARE = [[1, 2], [3, 4.5]]


def test_rows_of_one_input_are_values():
    query = protocol.read({"instances": [SQUARE, SQUARE]}, DOORS)
    assert (query.door, query.rows, query.by_row) == ("serving_default", 2, True)
    assert query.inputs["image"].dtype == np.float32
    np.testing.assert_array_equal(query.inputs["image"], [SQUARE, SQUARE])


def test_rows_of_several_inputs_are_objects_and_columns_say_the_same():
    rows = [{"token": 1, "state": [0, 1, 2]}, {"token": 2, "state": [3, 4, 5]}]
    columns = {"token": [1, 2], "state": [[0, 1, 2], [3, 4, 5]]}
    one = protocol.read({"signature_name": "two", "instances": rows}, DOORS)
    two = protocol.read({"signature_name": "two", "inputs": columns}, DOORS)
    assert one.by_row and not two.by_row
    for name in columns:
        np.testing.assert_array_equal(one.inputs[name], two.inputs[name])


def test_bytes_come_as_base64_and_strings_as_they_are():
    given = [{"b64": base64.b64encode(b"\x00\xff").decode()}, "é"]
    query = protocol.read({"signature_name": "bytes", "instances": given}, DOORS)
    assert query.inputs["encoded"].tolist() == [b"\x00\xff", "é".encode()]


def test_an_input_for_all_examples_comes_by_column():
    inputs = {"prompt": ["a", "b"], "length": 5, "temperature": 0}
    query = protocol.read({"signature_name": "generate", "inputs": inputs}, DOORS)
    assert query.rows == 2 and query.inputs["length"].shape == () and query.inputs["temperature"].dtype == np.float32


def test_strings_come_in_any_shape():
    query = protocol.read({"signature_name": "pairs", "instances": [["a", "b"], [{"b64": "YwA="}, "d"]]}, DOORS)
    assert query.inputs["pair"].tolist() == [[b"a", b"b"], [b"c\x00", b"d"]] and query.rows == 2


def test_of_an_open_shape_all_are_taken():
    for number, text in ((1, "a"), ([[1, 2]], [["a"], ["b"]]), ([[[1]]], [])):
        query = protocol.read({"signature_name": "anything", "inputs": {"x": number, "text": text}}, DOORS)
        assert query.inputs["x"].tolist() == number and query.rows == 1
        assert query.inputs["text"].shape == np.shape(text)


def test_what_an_empty_list_would_hold_is_as_large_as_the_signature_says():
    query = protocol.read({"signature_name": "cache", "inputs": {"position": [0, 0], "cache": [[], []]}}, DOORS)
    assert query.inputs["cache"].shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ([], "JSON object"),
        ({}, '"instances"'),
        ({"instances": [], "inputs": []}, "either"),
        ({"instances": []}, "at least one"),
        ({"instances": [SQUARE], "signature": "x"}, "did you mean 'signature_name'"),
        ({"instances": [SQUARE], "signature" * 10_000: "x"}, "^.{1,300}$"),
        ({"instances": [SQUARE], "signature_name": "image" * 10_000}, "^.{1,300}$"),
        ({"inputs": {"image" * 10_000: 1}}, "^.{1,300}$"),
        ({"instances": [[[True, False], [1, 2]]]}, "takes numbers"),
        ({"signature_name": "tokens", "inputs": [[1 << 31]]}, "whole numbers from -2147483648 to 2147483647"),
        ({"signature_name": "tokens", "inputs": [[1.0]]}, "takes whole numbers"),
        ({"instances": [SQUARE], "signature_name": "image"}, "did you mean 'images'"),
        ({"instances": [SQUARE], "signature_name": {"a": 1}}, "no signature"),
        ({"instances": [[1, 2]]}, r"shape \[1, 2\], not \[any, 2, 2\]"),
        ({"instances": [SQUARE, [1]]}, "different lengths"),
        ({"instances": [[["a", "b"], ["c", "d"]]]}, "takes numbers"),
        ({"instances": [[[None, 1], [1, 1]]]}, "takes numbers"),
        ({"instances": [[[1e39, 1], [1, 1]]]}, "float32 cannot"),
        ({"inputs": {"imag": [SQUARE]}}, "did you mean 'image'"),
        ({"inputs": {}}, "'image' is missing"),
        ({"signature_name": "images", "instances": [[[[256]]]]}, "from 0 to 255"),
        ({"signature_name": "images", "instances": [[[[0.5]]]]}, "whole numbers"),
        ({"signature_name": "bytes", "instances": [{"b64": "?"}]}, "not base64"),
        ({"signature_name": "bytes", "instances": [{"b64": 1}]}, "takes strings"),
        ({"signature_name": "bytes", "instances": [1]}, "takes strings"),
        ({"signature_name": "two", "instances": [1]}, "an object with the keys"),
        ({"signature_name": "two", "instances": [{"token": 1}, {"state": 1}]}, "an object with the keys"),
        ({"signature_name": "two", "inputs": [1]}, "an object with the keys"),
        ({"signature_name": "two", "inputs": {"token": [1], "state": [[1, 2, 3]] * 2}}, "different numbers"),
        ({"signature_name": "generate", "instances": ["a"]}, 'send "inputs"'),
        ({"signature_name": "two", "inputs": {"token": [], "state": []}}, "no example"),
        ({"inputs": [[]]}, r"shape \[1, 0\], not \[any, 2, 2\]"),
        ({"signature_name": "tokens", "inputs": []}, r"shape \[0\], not \[any, any\]"),
        ({"signature_name": "tokens", "inputs": [[1, 2], [3, 10]]}, "'tokens' holds 10, and takes a whole number from"),
        (
            {"signature_name": "generate", "inputs": {"prompt": ["a"], "length": 5, "temperature": 2.5}},
            "the input 'temperature' is 2.5, and takes a number from 0 to 2",
        ),
        ({"signature_name": "pairs", "instances": [["a", "b"], ["c"]]}, "different lengths"),
        ({"signature_name": "pairs", "instances": [["a"]]}, r"shape \[1, 1\], not \[any, 2\]"),
        ({"signature_name": "pairs", "instances": [[["a"], ["b"]]]}, "takes strings"),
        ({"signature_name": "anything", "inputs": {"x": 1, "text": nested(900)}}, "takes strings"),
        ({"signature_name": "waves", "instances": [1.5]}, "of the type complex64"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(document, sentence):
    with pytest.raises(Refused, match=sentence) as caught:
        protocol.read(document, DOORS)
    assert caught.value.status == 400


def test_a_long_string_among_numbers_takes_no_more_than_itself():
    """Not as many times its length as there are numbers."""
    rows = [[["x" * 100_000, 1], [2, 3]]] + [SQUARE] * 250
    tracemalloc.start()
    try:
        with pytest.raises(Refused, match="takes numbers"):
            protocol.read({"instances": rows}, DOORS)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_answers_by_row_and_by_column():
    outputs = {"label": np.array([b"a", b"b"], object), "score": np.array([1, 2], np.float32)}
    by_row, by_column = (Query("x", {}, 2, by_row) for by_row in (True, False))
    assert protocol.write(by_row, outputs) == {
        "predictions": [{"label": "a", "score": 1.0}, {"label": "b", "score": 2.0}]
    }
    assert protocol.write(by_column, outputs) == {"outputs": {"label": ["a", "b"], "score": [1.0, 2.0]}}
    assert protocol.write(by_row, {"score": outputs["score"]}) == {"predictions": [1.0, 2.0]}
    assert protocol.write(by_column, {"x_bytes": outputs["label"]}) == {"outputs": [{"b64": "YQ=="}, {"b64": "Yg=="}]}


@pytest.mark.parametrize("value", [np.array(3.0), np.array([1.0, 2.0]), np.array([2, 1, 2])])
def test_what_is_one_for_all_examples_comes_by_column_only(value):
    outputs = {"score": np.array([1, 2], np.float32), "sum": value}
    assert protocol.write(Query("x", {}, 2, False), outputs)["outputs"]["sum"] == value.tolist()
    if value.shape != (2,):
        with pytest.raises(Refused, match="the output 'sum' is not one for each") as caught:
            protocol.write(Query("x", {}, 2, True), outputs)
        assert caught.value.status == 400


def test_names_of_inputs_say_nothing_of_a_foreign_model():
    """Bounds are for what kzoo's doors call so."""
    inputs = {"prompt": np.zeros((2, 3)), "encoded": np.zeros(2), "length": np.array(b"long", object)}
    limits.check(Query("x", inputs, 2, True), limits.Limits())
    with pytest.raises(Refused):
        limits.check(Query("x", {"length": np.array(5000)}, 1, True), limits.Limits())


def test_a_request_may_not_ask_for_everything(png):
    small = limits.Limits(rows=2, pixels=63, length=10)

    def query(**inputs):
        return Query("x", inputs, len(next(iter(inputs.values()))), True)

    with pytest.raises(Refused, match="at most 2"):
        limits.check(query(image=np.zeros((3, 2, 2))), small)
    for length in (0, 11):
        with pytest.raises(Refused, match="1 to 10"):
            limits.check(query(prompt=np.array([b"a"], object), length=np.array(length)), small)
    with pytest.raises(Refused, match="8 x 8 pixels") as caught:
        limits.check(query(encoded=np.array([png], object)), small)
    assert caught.value.status == 413
    limits.check(query(encoded=np.array([png], object)), limits.Limits())
    with pytest.raises(Refused, match="no tokens"):
        limits.check(query(tokens=np.zeros((1, 0), np.int32)), small)
    with pytest.raises(Refused, match="no images"):
        limits.check(query(images=np.zeros((1, 0, 5, 1), np.uint8)), small)
    limits.check(query(images=np.zeros((1, 2, 200, 1), np.uint8)), small)
    with pytest.raises(Refused, match="202 x 2 pixels is more than 100 times as long as wide") as caught:
        limits.check(query(images=np.zeros((1, 2, 202, 1), np.uint8)), small)
    assert caught.value.status == 413
    with pytest.raises(Refused, match="1 x 101 pixels is more than 100 times"):
        limits.check(query(encoded=np.array([encoded_png(np.zeros((101, 1), np.uint8))], object)), limits.Limits())
    # Beside one long prompt, short ones would take as much memory: the sum of both is no bound.
    prompts = np.array([b"a", "äöüßé€".encode()], object)
    with pytest.raises(Refused, match="a prompt has 13 bytes, and at most 10") as caught:
        limits.check(query(prompt=prompts, length=np.array(1)), small)
    assert caught.value.status == 413
    limits.check(query(prompt=prompts[:1].repeat(2), length=np.array(10)), small)
    with pytest.raises(Refused, match="12 tokens, and at most 10") as caught:
        limits.check(query(tokens=np.zeros((2, 6), np.int32)), small)
    assert caught.value.status == 413
    with pytest.raises(Refused, match="no JPEG"):
        limits.check(query(encoded=np.array([b"GIF"], object)), small)


def encoded_png(pixels) -> bytes:
    import io

    from PIL import Image

    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def test_an_animated_picture_is_refused():
    """All of its pictures would be decoded, of which a small body can hold gigabytes."""
    import io

    from PIL import Image

    def gif(count):
        sink, frames = io.BytesIO(), [Image.new("L", (4, 4), 99 * number) for number in range(count)]
        frames[0].save(sink, "GIF", save_all=True, append_images=frames[1:])
        return Query("x", {"encoded": np.array([sink.getvalue()], object)}, 1, True)

    limits.check(gif(1), limits.Limits())
    with pytest.raises(Refused, match="an animated GIF, and takes single pictures") as caught:
        limits.check(gif(2), limits.Limits())
    assert caught.value.status == 400


@pytest.fixture
def png():
    return encoded_png(np.arange(64, dtype=np.uint8).reshape(8, 8))
