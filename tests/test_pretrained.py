import functools
import hashlib
import http.server
import json
import shutil
import threading

import numpy as np
import pytest

import kzoo
from kzoo import configs, pretrained
from kzoo.weights import save_checkpoint

NAMES = pretrained.list_weights()
TINY_SSD = {"input_shape": (64, 64, 3), "width": 0.02, "extras": (), "scales": (0.1, 0.3, 0.6)}
TINY_SSD |= {"aspect_ratios": ((2.0,), (2.0,)), "batch_norm": True}


def test_the_wheel_stays_small():
    shipped = [p for p in pretrained.FOLDER.rglob("*.npz")]
    assert shipped and sum(p.stat().st_size for p in shipped) < 6_000_000


@pytest.mark.parametrize("name", NAMES)
def test_entries_are_whole_and_their_networks_build(name):
    model, _, tag = name.partition("/")
    entry = pretrained.find(model, tag)
    assert entry.card["recipe"] in kzoo.list_recipes(model) and entry.licence and entry.metrics["accuracy"] > 0.5
    built = kzoo.build(model, weights=tag)
    assert tuple(built.outputs[0].shape[1:]) == (len(entry.card["labels"]),)


@pytest.mark.parametrize("name", [n for n in NAMES if n.endswith("/mnist")])
def test_shipped_weights_have_their_recorded_accuracy(name, tfds_dir):
    from kzoo.data.reading import Reading
    from kzoo.data.sources import open_collection

    model, _, tag = name.partition("/")
    entry = pretrained.find(model, tag)
    test = open_collection("tfds:mnist", Reading(data_dir=str(tfds_dir))).parts["test"]
    how = entry.card["preprocessing"]
    images = (test.pixels.astype("float32") - np.float32(how["mean"])) / np.float32(how["std"])
    found = kzoo.build(model, weights=tag).predict(images, batch_size=500, verbose=0).argmax(1)
    assert (found == test.labels).mean() == pytest.approx(entry.metrics["accuracy"], abs=2e-4)


def test_a_head_of_another_size_starts_anew_and_is_named(capsys):
    model = kzoo.build("cnn_classifier", weights="mnist", num_classes=3)
    said = capsys.readouterr().err
    assert "starts anew: logits/kernel" in said and "(3,)" in said
    whole = kzoo.build("cnn_classifier", weights="mnist")
    for ours, theirs in zip(model.layers[:-1], whole.layers[:-1], strict=True):
        for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", [".keras", ".h5", ".weights.h5"])
def test_a_keras_file_with_another_head_is_loaded_all_but_it(suffix, tmp_path, capsys):
    tiny = {"input_shape": (8, 8, 1), "filters": (4, 6)}
    first = kzoo.build("cnn_classifier", num_classes=4, **tiny)
    path = tmp_path / f"model{suffix}"
    (first.save_weights if suffix == ".weights.h5" else first.save)(path)
    second = kzoo.build("cnn_classifier", weights=path, num_classes=7, **tiny)
    assert "starts anew: logits/kernel" in capsys.readouterr().err
    for layer in ("stage1_block1_conv", "stage2_block2_conv"):
        np.testing.assert_array_equal(first.get_layer(layer).kernel, second.get_layer(layer).kernel)
    with pytest.raises(kzoo.RequestError, match="does not fit"):
        kzoo.build("cnn_classifier", weights=path, num_classes=4, input_shape=(8, 8, 1), filters=(4, 5))


@pytest.mark.parametrize("suffix", [".npz", ".weights.h5"])
@pytest.mark.parametrize(
    ("name", "tiny", "classes", "anew"),
    [
        ("vgg16_detector", TINY_SSD, "num_classes", {"head1_classes_conv", "head2_classes_conv"}),
        ("dqn_mlp", {"hidden": (8, 4), "dueling": True}, "num_actions", {"advantage"}),
    ],
)
def test_of_several_heads_those_that_do_not_fit_start_anew(name, tiny, classes, anew, suffix, tmp_path, capsys):
    first, path = kzoo.build(name, **tiny, **{classes: 2}), tmp_path / f"model{suffix}"
    first.save_weights(path) if suffix == ".weights.h5" else save_checkpoint(path, first, {})
    second = kzoo.build(name, weights=path, **tiny, **{classes: 5})
    said = capsys.readouterr().err
    for ours, theirs in zip(second.layers, first.layers, strict=True):
        fits = all(np.array_equal(a, b) for a, b in zip(ours.get_weights(), theirs.get_weights(), strict=True))
        assert fits is (ours.name not in anew) and (f"{ours.name}/kernel" in said) is (ours.name in anew), ours.name


def test_a_file_that_lacks_more_than_the_head_is_refused(tmp_path):
    plain = {"input_shape": (8, 8, 1), "filters": (4, 6)}
    path = tmp_path / "model.weights.h5"
    kzoo.build("cnn_classifier", num_classes=4, batch_norm=False, **plain).save_weights(path)
    with pytest.raises(kzoo.RequestError, match="does not fit"):
        kzoo.build("cnn_classifier", weights=path, num_classes=7, **plain)


def test_a_run_is_never_given_a_new_head(small_run, tmp_path):
    copy = shutil.copytree(small_run.path, tmp_path / "run")
    card = json.loads((copy / "model.json").read_text())
    card["arguments"]["num_classes"], card["labels"] = 7, card["labels"][:7]
    (copy / "model.json").write_text(json.dumps(card))
    image = np.zeros((8, 8, 1), np.uint8)
    for work in (kzoo.load, kzoo.bench, lambda run: kzoo.predict(run, [image]), lambda run: kzoo.explain(run, [image])):
        with pytest.raises(kzoo.RequestError, match="does not fit"):
            work(copy)


def test_a_known_tag_is_one_even_beside_a_folder_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "mnist").mkdir()
    monkeypatch.chdir(tmp_path)
    assert kzoo.build("cnn_classifier", weights="mnist").count_params() == 165_634
    with pytest.raises(kzoo.RequestError, match="not a run folder"):
        kzoo.build("cnn_classifier", weights="./mnist")


@pytest.mark.parametrize(
    ("name", "tag", "message"),
    [
        ("cnn_classifier", "mnst", "no weights 'mnst'.*'mnist'"),
        ("resnet", "imagenet", "no weights 'imagenet', and there is no such file; it has none"),
        ("cnn_classifier", "nowhere.keras", "there are no weights at nowhere.keras"),
    ],
)
def test_unknown_weights_are_one_sentence(name, tag, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.build(name, weights=tag)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """An entry whose file is on a server of this machine, an empty cache, and the served folder."""
    folder = tmp_path / "served"
    folder.mkdir()
    content = (pretrained.FOLDER / "cnn_classifier" / "mnist.npz").read_bytes()
    (folder / "remote.npz").write_bytes(content)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        entry = pretrained.find("cnn_classifier", "mnist").model_dump(exclude={"model", "tag", "file"})
        entry["url"] = f"http://127.0.0.1:{server.server_address[1]}/remote.npz"
        entries = tmp_path / "entries"
        (entries / "cnn_classifier").mkdir(parents=True)
        (entries / "cnn_classifier" / "remote.yaml").write_text(configs.dump(entry))
        monkeypatch.setattr(pretrained, "FOLDER", entries)
        monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
        yield folder / "remote.npz", tmp_path / "cache" / "weights", server
        server.shutdown()


def test_weights_are_fetched_once_and_then_come_from_the_cache(served, capsys):
    file, cache, _ = served
    kzoo.build("cnn_classifier", weights="remote")
    assert "fetching http://127.0.0.1" in capsys.readouterr().err
    file.unlink()
    kzoo.build("cnn_classifier", weights="remote")
    assert len(list(cache.iterdir())) == 1


def test_what_is_not_the_promised_file_is_not_kept(served):
    file, cache, _ = served
    file.write_bytes(b"x" * 5_000_000)
    with pytest.raises(kzoo.WorkError, match="SHA-256"):
        kzoo.build("cnn_classifier", weights="remote")
    assert not list(cache.iterdir())


def test_a_changed_file_in_the_cache_is_refused(served):
    kzoo.build("cnn_classifier", weights="remote")
    (path,) = served[1].iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(kzoo.WorkError, match=hashlib.sha256(content).hexdigest()):
        kzoo.build("cnn_classifier", weights="remote")


def test_without_the_server_the_path_that_would_do_is_named(served):
    served[2].shutdown()
    served[2].server_close()
    with pytest.raises(kzoo.RequestError, match=rf"cannot be fetched .*put the file at {served[1]}"):
        kzoo.build("cnn_classifier", weights="remote")
