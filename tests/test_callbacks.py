from types import SimpleNamespace

import pytest

from kzoo.tasks import callbacks


@pytest.fixture
def best(monkeypatch):
    def make(monitor="val_accuracy", patience=None, min_delta=0.0):
        saved = []
        made = callbacks.Best(None, monitor, patience, min_delta)
        monkeypatch.setattr(callbacks.Best, "_save", lambda self, epoch: saved.append(epoch + 1))
        made.set_model(SimpleNamespace(stop_training=False))
        made.saved = saved
        return made

    return make


def feed(best, values):
    for epoch, value in enumerate(values):
        best.on_epoch_end(epoch, {best.monitor: value})
        if best.model.stop_training:
            return epoch + 1
    return None


def test_the_best_epoch_is_kept_and_the_later_of_equals(best):
    kept = best()
    feed(kept, [0.5, 0.9, 0.8, 0.9, 0.7])
    assert kept.saved == [1, 2, 4] and (kept.best, kept.epoch) == (0.9, 4)


def test_losses_improve_downwards(best):
    kept = best("val_loss")
    feed(kept, [2.0, 1.0, 1.5])
    assert (kept.best, kept.epoch) == (1.0, 2)
    for name, higher in (("val_accuracy", True), ("val_bits_per_char", False), ("mean_return", True), ("error", False)):
        assert callbacks.higher_is_better(name) is higher


def test_patience_counts_epochs_without_a_real_improvement(best):
    assert feed(best(patience=2), [0.5, 0.6, 0.6, 0.6, 0.9]) == 4
    assert feed(best(patience=2, min_delta=0.1), [0.5, 0.55, 0.58, 0.9]) == 3
    assert feed(best(patience=3), [0.5, 0.4, 0.4, 0.6, 0.5]) is None


def test_what_is_no_number_is_worse_than_anything(best):
    for monitor, values in (("val_loss", [float("nan"), 0.5, 0.4]), ("val_accuracy", [float("nan"), 0.4, 0.5])):
        kept = best(monitor)
        feed(kept, values)
        assert (kept.best, kept.epoch) == (values[-1], 3)


def test_state_goes_on_where_it_was(best):
    first, second = best(patience=2), best(patience=2)
    feed(first, [0.5, 0.4])
    second.state = first.state
    assert feed(second, [0.45]) == 1


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (61, "1:01"), (3725, "1:02:05")])
def test_time_left_is_readable(seconds, text):
    assert callbacks.clock(seconds) == text
