"""The text task from recipe to run, its verbs, and its exports."""

import json
import math

import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo import weights
from kzoo.tasks.text.answers import Answers
from tests.test_resume import assert_same_end

# Dropout of every kind, resets, averages and a schedule: everything that has a state of its own.
SMALL = {
    "arguments": {"num_layers": 2, "units": 16, "embedding": 8, "dropout": 0.1, "weight_dropout": 0.1},
    "data.batch_size": 8,
    "data.length": 25,
    "data.reset": 0.05,
    "data.test": 0.02,
    "train.epochs": 3,
    "train.steps_per_epoch": 12,
    "train.ema": 0.9,
    "train.optimizer.learning_rate": 0.01,
    "train.sample": {"length": 30},
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    words = np.random.default_rng(0).choice(["der", "die", "das", "grün", "€"], 3000)
    (folder / "words.txt").write_text(" ".join(words))
    return kzoo.load_recipe("lstm_textgen/pydoc", {**SMALL, "data.source": f"file:{folder / 'words.txt'}"})


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    return kzoo.train(recipe, out=tmp_path_factory.mktemp("run") / "small")


def test_the_run_holds_figures_samples_and_tokeniser(run):
    figures = run.summary["test"]
    assert figures["bits"] == pytest.approx(figures["loss"] / math.log(2))
    assert figures["tokens"] > 200 and figures["window"] == 256
    assert run.summary["training"]["val_loss"] < 2.5
    assert run.card["tokenizer"] == {"kind": "characters", "vocabulary": " adeginrsü€"}
    assert [p.name for p in sorted((run.path / "samples").iterdir())] == [f"epoch-000{n}.txt" for n in (1, 2, 3)]
    assert len((run.path / "samples" / "epoch-0001.txt").read_text()) == 31
    rows = run.metrics()
    assert all(float(r["val_bits"]) == pytest.approx(float(r["val_loss"]) / math.log(2), rel=1e-5) for r in rows)


def test_resume_carries_the_recurrent_state_and_ends_bit_for_bit_the_same(recipe, run, tmp_path):
    half = kzoo.train(recipe, out=tmp_path / "run", until=1)
    with np.load(half.checkpoint("last")) as stored:
        carried = [k for k in stored.files if k.startswith("carried/")]
        assert len(carried) == 4 and any(np.abs(stored[k]).max() > 0 for k in carried)
    assert_same_end(kzoo.resume(half.path), run)


def test_a_text_that_changed_is_refused_on_resuming(tmp_path, recipe):
    path = tmp_path / "t.txt"
    path.write_text("abc " * 1000)
    other = recipe.override({"data.source": f"file:{path}"})
    half = kzoo.train(other, out=tmp_path / "run", until=1)
    path.write_text("abd " * 1000)
    with pytest.raises(kzoo.RequestError, match="another text"):
        kzoo.resume(half.path)


def test_evaluation_gives_the_figures_of_the_training(run):
    figures = kzoo.evaluate(run, split="validation")
    # In training under mixed precision where the machine has it, here in float32.
    assert figures["loss"] == pytest.approx(run.summary["training"]["val_loss"], abs=0.02)
    with pytest.raises(kzoo.RequestError, match="no valid part"):
        kzoo.evaluate(run, split="valid")


def test_generate_from_python(run):
    how = {"length": 40, "seed": 3, "temperature": 0.7}
    first, second = kzoo.generate(run, "der ", num=2, **how)
    assert first.startswith("der ") and len(first) == 44 and first != second
    assert kzoo.generate(run, ["der ", "die "], **how)[0].startswith("der ")
    assert kzoo.predict(run, "der ", **how)[0]["text"] == kzoo.generate(run, "der ", **how)[0]
    with pytest.raises(kzoo.RequestError, match="num is 0"):
        kzoo.generate(run, num=0)
    with pytest.raises(kzoo.RequestError, match="did you mean 'temperature'"):
        kzoo.generate(run, temprature=1.0)


def test_generate_by_command(run, command):
    how = ("--length", 60, "--seed", 3, "--prompt", "die ", "--top-k", 4)
    streamed = command("generate", run.path, *how, "--stream")
    assert streamed.code == 0 and streamed.err == ""
    assert streamed.out == kzoo.generate(run, "die ", length=60, seed=3, top_k=4)[0] + "\n"
    # Tokens as probable as the most probable one are that one alone.
    greedy = kzoo.generate(run, "die ", length=60, temperature=0.0)[0]
    assert command("generate", run.path, *how, "--min-p", "1").out == greedy + "\n"
    strange = command("generate", run.path, "--prompt", "Straße")
    assert strange.code == 2 and "does not know" in strange.err and "'ß' (U+00DF" in strange.err
    assert "Traceback" not in strange.err


def test_only_language_models_write(small_run, command):
    done = command("generate", small_run.path)
    assert done.code == 2 and "writes no text" in done.err


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("export") / "export"
    return kzoo.export(run, out=out, formats=("saved_model", "keras")), out


def test_export_is_verified_at_every_door(saved):
    report, _ = saved
    assert report.ok
    assert set(report.formats["saved_model"]["signatures"]) == {"serving_default", "step", "generate"}


def test_saved_model_writes_what_python_writes(saved, run):
    module = tf.saved_model.load(str(saved[1] / "saved_model"))
    door = module.signatures["generate"]

    def served(prompts, **how):
        given = {"length": 30, "temperature": 0.0, "top_k": 0, "top_p": 1.0, "seed": 4, **how}
        return [t.decode() for t in door(prompt=tf.constant(prompts), **_tensors(given))["text"].numpy()]

    prompts = ["der ", "grün € die"]
    assert served(prompts) == kzoo.generate(run, prompts, length=30, temperature=0.0, seed=4)
    how = {"temperature": 0.8, "top_k": 5, "top_p": 0.9}
    assert served(prompts, **how) == kzoo.generate(run, prompts, length=30, seed=4, **how)
    assert served(prompts, **how) == served(prompts, **how) != served(prompts, **{**how, "seed": 5})


GENERATE = {"length": 4, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": 1}


@pytest.mark.parametrize("kind", ["run", "saved_model", "keras"])
def test_a_server_takes_the_numbers_that_generate_takes(saved, run, kind):
    doors = pytest.importorskip("kzoo.serving.doors", reason="serving needs the extra serve")
    from kzoo.serving import protocol
    from kzoo.serving.refused import Refused

    path = {"run": run.path, "saved_model": saved[1], "keras": saved[1] / "model.keras"}[kind]
    model = doors.open_doors(path)
    right = {"length": 1, "temperature": 0, "top_k": 0, "top_p": 1, "seed": 0}
    wrong = {"length": [0], "temperature": [-0.1, -1e-9], "top_k": [-1], "top_p": [-1, 0, 1e-60, 1.5], "seed": [-1]}
    assert right.keys() == wrong.keys() == model.doors["generate"].inputs.keys() - {"prompt"}

    def ask(door, **inputs):
        return protocol.read({"signature_name": door, "inputs": inputs}, model.doors)

    for name, value in right.items():
        query = ask("generate", prompt=["die"], **{**GENERATE, name: value})
        assert model.doors["generate"].call(query.inputs)["text"][0].startswith(b"die")
    for name, value in ((name, value) for name, values in wrong.items() for value in values):
        how = {**GENERATE, name: value}
        with pytest.raises(kzoo.RequestError) as known:
            Answers(run.card).answer(None, ["die"], **how)
        with pytest.raises(Refused, match=f"^the input '{name}' is ") as caught:
            ask("generate", prompt=["die"], **how)
        assert caught.value.status == 400
        assert str(caught.value).partition(", and takes ")[2] == str(known.value).partition(", and takes ")[2] != ""
    # The vocabulary has 12 tokens: a CPU would refuse others, a GPU would read them as something else.
    for token in (12, -1):
        with pytest.raises(Refused, match=f"the input 'tokens' holds {token}, and takes a whole number from 0 to 11"):
            ask("serving_default", tokens=[[0, token, 11]])
    assert model.doors["serving_default"].call(ask("serving_default", tokens=[[0, 11]]).inputs)["logits"].shape[1] == 2


def test_a_number_out_of_its_range_over_http(saved):
    pytest.importorskip("uvicorn", reason="serving needs the extra serve")
    from tests.serving.test_serve import Server

    server = Server(saved[1])
    try:
        for value, status in ((1.5, 400), (-0.5, 400), (0.9, 200)):
            inputs = {**GENERATE, "prompt": ["die"], "top_p": value}
            found, answer = server.predict(signature_name="generate", inputs=inputs)
            assert found == status, answer
            if status == 400:
                wanted = f"the input 'top_p' is {value}, and takes a number above 0 and at most 1"
                assert answer == {"error": wanted}
    finally:
        code, err = server.end()
        assert code == 0 and "Traceback" not in err, err


def _tensors(values):
    return {k: tf.constant(v, tf.int32 if isinstance(v, int) else tf.float32) for k, v in values.items()}


def test_step_after_step_gives_the_logits_of_the_whole(saved, run):
    module = tf.saved_model.load(str(saved[1] / "saved_model"))
    tokens = Answers(run.card).tokenizer.encode("die grün €")[None]
    whole = module.signatures["serving_default"](tokens=tf.constant(tokens))["logits"].numpy()
    state = {k: tf.zeros((1, *s["shape"])) for k, s in run.card["state"].items()}
    for place in range(tokens.shape[1]):
        state = dict(module.signatures["step"](token=tf.constant(tokens[:, place]), **state))
        np.testing.assert_allclose(state.pop("logits"), whole[:, place], atol=1e-5)


def test_artefacts_load_without_the_run(saved, run):
    model = kzoo.load(saved[1] / "model.keras")
    live = kzoo.build(run.card["model"], **run.card["arguments"])
    weights.load_checkpoint(run.weights, live)
    for a, b in zip(model.get_weights(), live.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"data.tokeniser": "bytes"}, "did you mean 'tokenizer'"),
        ({"train.monitor": "val_los"}, "did you mean 'val_loss'"),
        ({"arguments.vocab_size": 50}, "vocab_size is 50, and the text of file:.* has 12"),
        ({"data.validation": 0.0, "data.test": 0.0, "train.monitor": "val_loss"}, "set data.validation"),
        ({"data.batch_size": 1000}, "1000 x 25"),
        ({"train.steps_per_execution": 13}, "an epoch has 12 steps"),
    ],
)
def test_bad_recipes_are_one_sentence(recipe, tmp_path, override, message):
    with pytest.raises(kzoo.RequestError, match=message):
        kzoo.train(recipe.override(override), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_seed_of_a_training_may_be_larger_than_that_of_a_text(recipe, tmp_path):
    short = {"train.epochs": 1, "train.steps_per_epoch": 1, "train.seed": (1 << 32) - 1}
    run = kzoo.train(recipe.override(short), out=tmp_path / "run")
    assert (run.path / "samples" / "epoch-0001.txt").read_text()


def test_bytes_without_validation(recipe, tmp_path):
    more = {"data.tokenizer": "bytes", "data.validation": 0.0, "data.test": 0.0, "data.batching": "windows"}
    run = kzoo.train(
        recipe.override({**more, "train.epochs": 1, "arguments.cell": "gru", "arguments.weight_dropout": 0.0}),
        out=tmp_path / "run",
    )
    assert run.summary["test"] is None and run.card["arguments"]["vocab_size"] == 256
    assert kzoo.generate(run, "€", length=5, seed=0)[0].startswith("€")


def test_any_text_is_judged(run, tmp_path, command):
    path, page = tmp_path / "other.txt", tmp_path / "page.html"
    path.write_text("der die das <b>grün</b> " * 30)
    done = command("evaluate", run.path, "--text", path, "--html", page, "--json")
    assert done.code == 0, done.err
    figures = json.loads(done.out)
    assert figures["characters"] == 30 * 24 and figures["unknown"] == 30 * len("<b></b>")
    assert figures["tokens"] + figures["unknown"] == figures["characters"] - 1
    assert figures["bits_per_character"] == figures["bits"]
    assert "<u>��</u>" not in page.read_text() and "<u>���</u>" in page.read_text()
    path.write_bytes(b"der \xff")
    with pytest.raises(kzoo.RequestError, match="offset 4"):
        kzoo.score(run, path)
    path.write_text("d")
    with pytest.raises(kzoo.RequestError, match="has 1 characters"):
        kzoo.score(run, path)


def test_bits_of_bytes_are_summed_up_for_characters(recipe, tmp_path):
    more = {"data.tokenizer": "bytes", "train.epochs": 1, "train.steps_per_epoch": 1}
    run = kzoo.train(recipe.override(more), out=tmp_path / "run")
    (tmp_path / "t.txt").write_text("ü€a")
    figures = kzoo.score(run, tmp_path / "t.txt", html=tmp_path / "t.html")
    assert figures["tokens"] == 5 and figures["characters"] == 3
    assert figures["bits_per_character"] == pytest.approx(figures["bits"] * 5 / 2)
    (tmp_path / "t.txt").write_bytes(b"\x80a\xe2\x82b\xff")
    figures = kzoo.score(run, tmp_path / "t.txt", html=tmp_path / "t.html")
    assert figures["tokens"] == 5 and figures["characters"] == 5
