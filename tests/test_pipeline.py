from types import SimpleNamespace

import numpy as np
import pytest

from kzoo.data import stepwise
from kzoo.data.images import Images
from kzoo.data.pipeline import Batches, Normalization
from kzoo.errors import RequestError
from tests.test_augment import NONE


def batches(count=50, size=8, **more):
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 1), np.uint8)
    images = Images(pixels, np.arange(count) % 3)
    plain = Normalization((0.0,), (1.0,))
    return Batches(images, classes=3, batch_size=size, normalization=plain, **more)


def ids(batch):
    return batch[0][:, 0, 0, 0].astype(int).tolist()


def test_a_step_is_a_pure_function_of_seed_and_step():
    how = SimpleNamespace(**{**NONE, "flip": "horizontal", "translate": 1})
    first, second = batches(seed=4, settings=how), batches(seed=4, settings=how)
    for step in (17, 3, 17):
        for a, b in zip(first.training_batch(step), second.training_batch(step), strict=True):
            assert np.array_equal(a, b)
    assert ids(batches(seed=5).training_batch(0)) != ids(batches(seed=4).training_batch(0))


def test_one_pass_sees_each_image_at_most_once_and_passes_differ():
    data = batches()
    passes = [[i for s in range(6) for i in ids(data.training_batch(6 * n + s))] for n in range(2)]
    for seen in passes:
        assert len(set(seen)) == len(seen) == 48
    assert passes[0] != passes[1]


def test_a_resumed_dataset_goes_on_where_the_whole_one_is():
    data = batches(seed=1)
    whole = [ids([t.numpy() for t in b]) for b in data.training(0, 20)]
    assert [ids([t.numpy() for t in b]) for b in data.training(13, 7)] == whole[13:]


def test_evaluation_sees_everything_once_in_order():
    seen = [ids([t.numpy() for t in b]) for b in batches().evaluation(16)]
    assert [i for b in seen for i in b] == list(range(50)) and len(seen[-1]) == 2


def test_labels_are_one_hot_and_weights_follow_the_class():
    _, labels, weights = batches(class_weights=np.array([1, 2, 3], np.float32)).training_batch(0)
    assert (labels.sum(1) == 1).all()
    assert np.array_equal(weights, labels.argmax(1) + 1)


def test_normalisation_is_that_of_the_formula():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 2, 2, 3), dtype=np.uint8)
    how = Normalization((1.0, 2.0, 3.0), (2.0, 4.0, 8.0))
    values = Batches(Images(pixels, np.zeros(4)), classes=2, batch_size=4, normalization=how).training_batch(0)[0]
    expected = (pixels - np.array([1, 2, 3])) / np.array([2, 4, 8])
    np.testing.assert_allclose(np.sort(values.ravel()), np.sort(expected.ravel()), rtol=1e-6)


def test_a_batch_larger_than_the_data_is_the_data():
    assert batches(count=5, size=64).steps_per_pass == 1


def test_a_batch_of_nothing_readable_weighs_nothing():
    class Unreadable(Images):
        def batch(self, indices):
            return np.zeros((0, 4, 4, 1), np.uint8), np.zeros(0, np.int64)

    images = Unreadable(np.zeros((8, 4, 4, 1), np.uint8), np.zeros(8))
    data = Batches(images, classes=3, batch_size=4, normalization=Normalization((0.0,), (1.0,)))
    values, labels, weights = data.training_batch(0)
    assert values.shape == (1, 4, 4, 1) and labels.shape == (1, 3) and weights.tolist() == [0]


def test_alternating_flip_shows_each_image_and_its_mirror_image_in_turn():
    pixels = np.zeros((12, 4, 4, 1), np.uint8)
    pixels[:, :, 0, 0] = np.arange(1, 13)[:, None]
    how = SimpleNamespace(**{**NONE, "flip": "alternating"})
    plain = Normalization((0.0,), (1.0,))
    data = Batches(Images(pixels, np.zeros(12)), classes=2, batch_size=6, normalization=plain, settings=how, seed=3)
    turns = []
    for number in range(4):
        shown = np.concatenate([data.training_batch(2 * number + s)[0] for s in range(2)])
        left, right = shown[:, 0, 0, 0], shown[:, 0, -1, 0]
        turns.append({int(max(a, b)): bool(b) for a, b in zip(left, right, strict=True)})
        assert len(turns[-1]) == 12
    assert all(turns[n][i] != turns[n + 1][i] for n in range(3) for i in range(1, 13))
    assert len(set(turns[0].values())) == 2, "some images begin mirrored and some do not"


def whole(step):
    return np.full((2, 3), step, np.float32), np.arange(step, dtype=np.int32)


def test_a_dataset_has_the_arrays_of_its_steps_in_order():
    arrays = [("float32", (2, 3)), ("int32", (None,))]
    data = stepwise.dataset(range(4, 24), whole, arrays, calls=4)
    assert [tuple(s.shape) for s in data.element_spec] == [(2, 3), (None,)]
    for step, (values, numbers) in zip(range(4, 24), data.as_numpy_iterator(), strict=True):
        assert (values == step).all() and numbers.tolist() == list(range(step))
    summed = stepwise.dataset(range(4, 6), whole, arrays, finish=lambda values, numbers: {"sum": numbers[-1] + 1})
    assert [element["sum"] for element in summed.as_numpy_iterator()] == [4, 5]


def test_what_fails_in_a_dataset_is_told_in_its_own_words():
    def fail(step):
        if step == 3:
            raise RequestError("picture 3 cannot be read")
        return whole(step)

    failures = []
    data = stepwise.dataset(range(9), fail, [("float32", (2, 3)), ("int32", (None,))], failures=failures)
    with pytest.raises(RequestError, match="^picture 3 cannot be read$"), stepwise.explained((), failures):
        list(data)
    with pytest.raises(ZeroDivisionError), stepwise.explained((), []):
        raise ZeroDivisionError
