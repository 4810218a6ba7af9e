import json

import numpy as np
import pytest

import kzoo
from kzoo.tasks.classification import figures


def test_figures_are_those_computed_by_hand():
    logits = np.log([[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]])
    found = figures.judge(logits, np.array([0, 1, 1, 1]), ("a", "b", "c"))
    assert found["accuracy"] == 0.75
    assert found["loss"] == pytest.approx(-np.log([0.7, 0.3, 0.8, 0.7]).mean())
    assert found["per_class"]["a"] == pytest.approx({"precision": 0.5, "recall": 1, "f1": 2 / 3, "support": 1})
    assert found["per_class"]["b"] == pytest.approx({"precision": 1, "recall": 2 / 3, "f1": 0.8, "support": 3})
    assert found["per_class"]["c"]["precision"] == 0 and found["precision"] == pytest.approx(0.5)
    assert found["confusion_matrix"] == [[1, 0, 0], [1, 2, 0], [0, 0, 0]]
    assert "top5_accuracy" not in found


def test_top5_counts_the_five_largest():
    logits = np.tile(np.arange(8.0), (4, 1))
    found = figures.judge(logits, np.array([7, 3, 2, 0]), tuple("abcdefgh"))
    assert found["top5_accuracy"] == 0.5 and found["accuracy"] == 0.25


def test_evaluate_writes_figures_and_a_picture(small_run):
    found = kzoo.evaluate(small_run, split="validation")
    folder = small_run.path / "evaluation" / "validation"
    assert json.loads((folder / "figures.json").read_text())["accuracy"] == found["accuracy"]
    assert (folder / "confusion_matrix.png").read_bytes().startswith(b"\x89PNG")
    assert sum(map(sum, found["confusion_matrix"])) == found["examples"]
    recorded = small_run.summary["training"]["val_accuracy"]
    assert found["accuracy"] == pytest.approx(recorded, abs=1e-6), "the chosen weights are the best epoch's"
    with pytest.raises(kzoo.RequestError, match="no nonsense part; it has test, train, validation"):
        kzoo.evaluate(small_run, split="nonsense")


def test_a_page_does_not_take_a_folders_place(small_run, tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(kzoo.RequestError, match=r"page\.html cannot be written: Is a directory"):
        kzoo.report(small_run, out=tmp_path / "page.html")


def test_the_summary_holds_what_evaluate_finds(small_run):
    assert kzoo.evaluate(small_run)["accuracy"] == small_run.summary["test"]["accuracy"]


def test_predict_takes_arrays_files_folders_and_globs_alike(small_run, tmp_path):
    from PIL import Image

    with np.load(small_run.path / "samples.npz") as stored:
        images = stored["images"]
    for number, pixels in enumerate(images):
        Image.fromarray(pixels[..., 0]).save(tmp_path / f"{number:02d}.png")
    answers = kzoo.predict(small_run, list(images), top=3)
    assert len(answers) == len(images) and all(len(a["top"]) == 3 for a in answers)
    assert all(a["label"] == a["top"][0]["label"] for a in answers)
    for inputs in (tmp_path, f"{tmp_path}/*.png", sorted(tmp_path.iterdir())):
        again = kzoo.predict(small_run, inputs, top=3)
        assert [a["top"] for a in again] == [a["top"] for a in answers]
    first = (tmp_path / "00.png").read_bytes()
    assert kzoo.predict(small_run, [first])[0]["label"] == answers[0]["label"]


def test_predict_names_what_it_cannot_read(small_run, tmp_path):
    (tmp_path / "no.png").write_bytes(b"no image")
    with pytest.raises(kzoo.RequestError, match=r"no\.png is no readable image"):
        kzoo.predict(small_run, tmp_path)
    with pytest.raises(kzoo.RequestError, match="no such file, folder or match"):
        kzoo.predict(small_run, f"{tmp_path}/*.jpg")
    with pytest.raises(kzoo.RequestError, match="top is 0"):
        kzoo.predict(small_run, np.zeros((8, 8, 1), np.uint8), top=0)


def test_training_on_ones_own_folder_follows_the_data(image_folder, tmp_path):
    bad = image_folder / "dark" / "03.png"
    bad.write_bytes(bad.read_bytes()[:50])
    recipe = kzoo.load_recipe(
        "cnn_classifier/digits",
        {
            "data.source": f"folder:{image_folder}",
            "data.batch_size": 4,
            "data.validation": 0.25,
            "arguments.filters": [4],
            "train.class_weights": {"dark": 2.0},
            "train.epochs": 6,
            "data.augment": {"brightness": 0.05, "cutout": 2, "flip": "both"},
        },
    )
    run = kzoo.train(recipe, out=tmp_path / "run")
    assert run.card["labels"] == ["dark", "light"] and run.card["arguments"]["input_shape"] == [12, 10, 3]
    assert run.summary["test"] is None and len(run.metrics()) == 6
    assert run.summary["notes"][-1] == "1 unreadable images were skipped" and str(bad) in run.summary["notes"][0]
    assert (run.path / "report.html").is_file()
    assert kzoo.predict(run, image_folder / "light" / "00.png")[0]["label"] in ("dark", "light")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"arguments.num_classes": 7}, "num_classes is 7, and the data .* have 10"),
        ({"arguments.filters": [4, 8, 16, 32]}, "must be at least 16 pixels"),
        ({"train.class_weights": {"ten": 1.0}}, "no class 'ten'"),
        ({"train.optimizer.name": "adamm"}, "did you mean 'adam'"),
        ({"data.source": "tfds:mnist", "data.data_dir": "/nowhere"}, "not prepared at /nowhere"),
    ],
)
def test_what_does_not_fit_is_refused_before_a_folder_is_made(overrides, message, tmp_path):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.train(kzoo.load_recipe("cnn_classifier/digits", overrides), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unreadable_file_that_is_read_late_stops_the_work_by_name(image_folder, tmp_path):
    recipe = kzoo.load_recipe(
        "cnn_classifier/digits",
        {
            "data.source": f"folder:{image_folder}",
            "data.cache": "none",
            "data.on_corrupt": "stop",
            "data.normalize": "unit",
            "data.batch_size": 4,
            "data.validation": 0.0,
            "arguments.filters": [4],
        },
    )
    (image_folder / "dark" / "07.png").write_bytes(b"no image")
    with pytest.raises(kzoo.RequestError, match=r"dark/07\.png cannot be read as an image"):
        kzoo.train(recipe, out=tmp_path / "run")


def test_settings_that_would_do_nothing_are_refused(tmp_path):
    for overrides in ({"train.early_stopping": {}}, {"train.monitor": "val_loss"}):
        recipe = kzoo.load_recipe("cnn_classifier/digits", {**overrides, "data.validation": 0.0})
        with pytest.raises(kzoo.RequestError, match="need a validation part"):
            kzoo.train(recipe, out=tmp_path / "run")


def test_parts_of_another_size_are_refused_before_the_training(tmp_path):
    arrays = {f"y_{part}": np.arange(20) % 2 for part in ("train", "test")}
    arrays |= {"x_train": np.zeros((20, 8, 8), np.uint8), "x_test": np.zeros((20, 9, 9), np.uint8)}
    np.savez(tmp_path / "d.npz", **arrays)
    recipe = kzoo.load_recipe("cnn_classifier/digits", {"data.source": f"npz:{tmp_path / 'd.npz'}"})
    with pytest.raises(kzoo.RequestError, match=r"test images are \(9, 9, 1\)"):
        kzoo.train(recipe, out=tmp_path / "run")


def test_a_builder_without_dtype_policy_trains_too(tmp_path, monkeypatch):
    import keras

    from kzoo import registry

    monkeypatch.setattr(registry, "_builders", dict(registry._builders))

    @kzoo.register(task="classification")
    def bare_net(input_shape: tuple[int, int, int], num_classes: int):
        """Nothing but what the data ask for."""
        image = keras.Input(input_shape, name="image")
        return keras.Model(image, keras.layers.Dense(num_classes, name="logits")(keras.layers.Flatten()(image)))

    run = kzoo.train(kzoo.recipe.from_values({"model": "bare_net", "train": {"epochs": 1}}), out=tmp_path / "run")
    assert run.recipe.arguments == {"input_shape": [8, 8, 1], "num_classes": 10}
    assert run.summary["test"]["examples"] == 360


def test_an_unknown_monitor_names_the_known_ones(tmp_path):
    recipe = kzoo.load_recipe("cnn_classifier/digits", {"train.monitor": "val_acuracy"})
    with pytest.raises(kzoo.RequestError, match="did you mean 'val_accuracy'"):
        kzoo.train(recipe, out=tmp_path / "run")


def test_without_validation_the_last_epoch_is_kept_averaged(tmp_path):
    recipe = kzoo.load_recipe(
        "cnn_classifier/digits",
        {"data.validation": 0.0, "train.epochs": 2, "train.ema": 0.9, "arguments.filters": [4, 8]},
    )
    run = kzoo.train(recipe, out=tmp_path / "run")
    assert kzoo.evaluate(run)["accuracy"] == run.summary["test"]["accuracy"]
    with np.load(run.checkpoint("best")) as best, np.load(run.checkpoint("last")) as last:
        key = next(k for k in best.files if "logits/kernel" in k)
        assert not np.array_equal(best[key], last[key]), "the average stands in the place of the last weights"


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_leaves_float32_artefacts(precision, tmp_path):
    import keras

    recipe = kzoo.load_recipe(
        "cnn_classifier/digits", {"train.precision": precision, "train.epochs": 2, "arguments.filters": [4, 8]}
    )
    run = kzoo.train(recipe, out=tmp_path / "run")
    assert run.recipe.arguments["dtype_policy"] == precision
    model = kzoo.load(run.path)
    assert {layer.compute_dtype for layer in model.layers} == {"float32"}
    plain = keras.saving.load_model(run.path / "model.keras", compile=False, safe_mode=True)
    image = np.zeros((1, 8, 8, 1), "float32")
    np.testing.assert_array_equal(plain(image), model(image))
