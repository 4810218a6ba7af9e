"""What numbers something takes, and what is said of others."""

import math

import numpy as np
import pydantic
import pytest

import kzoo
from kzoo.ranges import LARGEST, LARGEST_WHOLE, Range

ABOVE, SHARE, COUNT = Range(0, above=True), Range(0, 1), Range(1, LARGEST_WHOLE, whole=True)


@pytest.mark.parametrize(
    ("range_", "given"),
    [
        (ABOVE, 1e-30),
        (ABOVE, LARGEST),
        (ABOVE, 3),
        (SHARE, 0),
        (SHARE, np.float32(1)),
        (SHARE, np.array([[0.5], [1.0]])),
        (COUNT, 1),
        (COUNT, LARGEST_WHOLE),
        (COUNT, np.array([1, 2], np.uint8)),
        (COUNT, np.zeros((0, 2), np.int32)),
    ],
)
def test_what_is_taken(range_, given):
    range_.check("x", given)


@pytest.mark.parametrize(
    ("range_", "given", "sentence"),
    [
        (ABOVE, 0.0, "x is 0.0, and takes a finite number above 0"),
        (ABOVE, 1e-50, "x is 1e-50, and takes a finite number above 0"),  # no float32 but 0
        (ABOVE, 1e39, "x is 1e+39, and takes a finite number above 0"),
        (Range(0), math.inf, "x is inf, and takes a finite number of at least 0"),
        (SHARE, math.nan, "x is nan, and takes a number from 0 to 1"),
        (SHARE, np.float32(1.5), "x is 1.5, and takes a number from 0 to 1"),
        (SHARE, "half", "x is 'half', and takes a number from 0 to 1"),
        (SHARE, None, "x is None, and takes a number from 0 to 1"),
        (SHARE, True, "x is True, and takes a number from 0 to 1"),
        (Range(0, 1, above=True), -0.5, "x is -0.5, and takes a number above 0 and at most 1"),
        (COUNT, 0, "x is 0, and takes a whole number from 1 to 2147483647"),
        (COUNT, 2.0, "x is 2.0, and takes a whole number from 1 to 2147483647"),
        (COUNT, 1 << 31, "x is 2147483648, and takes a whole number from 1 to 2147483647"),
        (COUNT, 1 << 80, "x is 1208925819614629174706176, and takes a whole number from 1 to 2147483647"),
        (COUNT, np.array([[3, 0], [-2, 1]]), "x holds 0, and takes a whole number from 1 to 2147483647"),
    ],
)
def test_what_is_refused(range_, given, sentence):
    with pytest.raises(kzoo.RequestError) as caught:
        range_.check("x", given)
    assert str(caught.value) == sentence


@pytest.mark.parametrize("range_", [ABOVE, SHARE, COUNT])
def test_recipes_take_the_same(range_):
    kind = pydantic.create_model("Kind", x=(float, pydantic.Field(**range_.bounds)))
    for value in (-1.0, 0.0, 0.5, 1.0, 2.0, 1e39):
        try:
            Range(range_.low, range_.high, range_.above).check("x", value)
        except kzoo.RequestError:
            with pytest.raises(pydantic.ValidationError):
                kind(x=value)
        else:
            assert kind(x=value).x == value
