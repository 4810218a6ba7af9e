import shutil

import numpy as np
import pytest

import kzoo
from tests.conftest import SMALL


def arrays(run):
    with np.load(run.weights) as stored:
        return {k.partition("@")[0]: stored[k] for k in stored.files if k.startswith("model/")}


@pytest.fixture
def few(tmp_path):
    """Images of another set: the digits' size, two classes."""
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pixels = (rng.integers(0, 100, (60, 8, 8, 1)) + 100 * labels[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "few.npz", x_train=pixels, y_train=labels, x_test=pixels[:20], y_test=labels[:20])
    return f"npz:{tmp_path / 'few.npz'}"


def recipe(source, run, **more):
    given = {"data.source": source, "data.batch_size": 16, "train.weights": str(run.path), "train.epochs": 2}
    return kzoo.load_recipe("cnn_classifier/digits", {**SMALL, **given, **more})


def test_frozen_stages_stay_and_the_head_starts_anew(small_run, few, tmp_path, capsys):
    run = kzoo.train(recipe(few, small_run, **{"train.freeze": ["^stage1_"], "train.ema": None}), out=tmp_path / "run")
    assert "its head, which starts anew" in capsys.readouterr().err
    model, before = kzoo.load(run.path), kzoo.load(small_run.path)
    assert model.output.shape[-1] == 2
    for new, old in zip(model.layers, before.layers, strict=True):
        for a, b in zip(new.get_weights(), old.get_weights(), strict=True):
            if new.name.startswith("stage1_"):
                assert np.array_equal(a, b), f"{new.name} is frozen, its statistics included"
            elif a.shape == b.shape:
                assert not np.array_equal(a, b), f"{new.name} is trained"


def test_going_on_needs_the_weights_no_more(small_run, few, tmp_path):
    copy = kzoo.Run(shutil.copytree(small_run.path, tmp_path / "copy"))
    whole = kzoo.train(recipe(few, copy), out=tmp_path / "whole")
    begun = kzoo.train(recipe(few, copy), out=tmp_path / "run", until=1)
    shutil.rmtree(copy.path)
    gone_on = kzoo.resume(begun.path)
    for name, values in arrays(whole).items():
        assert np.array_equal(values, arrays(gone_on)[name])


def test_trained_weights_by_their_tag_bring_their_network(tfds_dir, tmp_path):
    changed = {
        "arguments": {},
        "data.data_dir": str(tfds_dir),
        "train.weights": "mnist",
        "train.freeze": ["stage"],
        "train.epochs": 1,
        "train.steps_per_epoch": 2,
        "train.optimizer": {"name": "sgd", "learning_rate": 1e-5},
        "train.ema": None,
    }
    run = kzoo.train(kzoo.load_recipe("cnn_classifier/mnist", changed), out=tmp_path / "run")
    assert run.recipe.arguments["filters"] == [24, 48, 96] and run.recipe.train.weights == "mnist"
    assert run.summary["test"]["accuracy"] > 0.99


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.freeze": ["stage9_"]}, "no layer of cnn_classifier matches 'stage9_'; its layers are stage1_"),
        ({"train.freeze": [""]}, "leaves nothing to train"),
        ({"train.freeze": ["("]}, "no regular expression"),
        ({"train.weights": "nowhere/run"}, "there are no weights at"),
        ({"train.weights": "mnits"}, "mnist"),
        ({"arguments.filters": [4, 4]}, "does not fit|holds"),
    ],
)
def test_what_cannot_be_started_from_is_one_sentence(small_run, few, tmp_path, changes, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.train(recipe(few, small_run, **changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
