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
        ({"train.unfreeze": [{"layers": ["stage1_"], "epoch": 1}]}, "no frozen layer .* frozen are none; train.freeze"),
        ({"train.weights": "nowhere/run"}, "there are no weights at"),
        ({"train.weights": "mnits"}, "mnist"),
        ({"arguments.filters": [4, 4]}, "does not fit|holds"),
    ],
)
def test_what_cannot_be_started_from_is_one_sentence(small_run, few, tmp_path, changes, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.train(recipe(few, small_run, **changes), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_layers_are_unfrozen_at_their_epoch_and_a_resumed_training_is_the_whole_one(small_run, few, tmp_path):
    changes = {
        "train.freeze": ["^stage[12]_"],
        "train.unfreeze": [{"layers": ["^stage2_"], "epoch": 1, "factor": 0.5}],
        "train.ema": 0.9,
        "train.epochs": 3,
    }
    tuned = recipe(few, small_run, **changes)
    begun = kzoo.train(tuned, out=tmp_path / "run", until=1)
    with np.load(begun.checkpoint("last")) as stored:
        before = {k: stored[k] for k in stored.files}
    start = {layer.name: layer.get_weights() for layer in kzoo.load(small_run.path).layers}
    gone_on = kzoo.resume(begun.path)
    ended = {layer.name: layer.get_weights() for layer in kzoo.load(gone_on.path).layers}
    whole = kzoo.train(tuned, out=tmp_path / "whole")
    for name, values in arrays(whole).items():
        assert np.array_equal(values, arrays(gone_on)[name])
    conv = next(n for n in start if n.startswith("stage2_") and n.endswith("_conv"))
    key = next(k for k in before if k.startswith("model/") and f"{conv}/kernel" in k)
    assert np.array_equal(before[key], start[conv][0]), "frozen in the first epoch"
    assert not np.array_equal(ended[conv][0], start[conv][0]), "trained in the later ones"
    for name in start:
        if name.startswith("stage1_"):
            assert all(np.array_equal(a, b) for a, b in zip(start[name], ended[name], strict=True))


def test_unfrozen_layers_learn_at_their_own_rate():
    import keras

    from kzoo.sections import Unfreeze
    from kzoo.tasks import freezing, update_rules

    layers = [keras.layers.Dense(1, name=n, use_bias=False, kernel_initializer="ones") for n in ("low", "mid", "high")]
    model = keras.Sequential([keras.Input((1,)), *layers])
    layers[0].trainable = layers[1].trainable = False
    steps = [Unfreeze(layers=("low",), epoch=2, factor=0.1), Unfreeze(layers=("low|mid",), epoch=1)]
    thaw = freezing.Thaw(model, steps)
    optimizer = update_rules.with_multipliers(keras.optimizers.SGD, {}, thaw.multipliers)(1.0)
    optimizer.build(thaw.variables(model))
    assert [layer.trainable for layer in layers] == [False, False, True]
    assert thaw.to(1) and [layer.trainable for layer in layers] == [False, True, True]
    assert not thaw.to(1) and thaw.to(2) and all(layer.trainable for layer in layers)
    optimizer.apply([keras.ops.ones((1, 1))] * 3, model.trainable_variables)
    np.testing.assert_allclose([float(v.numpy()[0, 0]) for v in model.trainable_variables], [0.9, 0, 0], atol=1e-6)
