"""Some of many, evenly spaced."""

import numpy as np
import pytest

from kzoo.data.spacing import spaced


@pytest.mark.parametrize(("length", "count"), [(10, 4), (1797, 256), (5, 5), (3, 16), (1, 8), (0, 8)])
def test_places_are_even_rise_and_reach_both_ends(length, count):
    places = spaced(length, count)
    assert len(places) == min(length, count)
    if length:
        assert places[0] == 0 and places[-1] == length - 1
        gaps = np.diff(places)
        assert not len(gaps) or (gaps.min() > 0 and gaps.max() - gaps.min() <= 1)
