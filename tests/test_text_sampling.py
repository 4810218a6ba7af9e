"""Writing and judging with a small network of random weights."""

import asyncio
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

import kzoo
from kzoo.data.text.tokenizers import Bytes, Characters
from kzoo.tasks.text import network as networks
from kzoo.tasks.text import sampling, scoring, strings, surprise
from kzoo.tasks.text.answers import Answers

LETTERS = "\n abcdefg"


SMALL = {
    "lstm_textgen": {"num_layers": 2, "units": 12, "embedding": 6},
    "transformer_textgen": {"num_layers": 1, "num_heads": 2, "width": 16, "context": 8},
}


def made(name):
    keras.utils.set_random_seed(0)
    model = kzoo.build(name, vocab_size=len(LETTERS) + 1, **SMALL[name])
    # Larger weights than a fresh network's, for choices that depend on what was read.
    for variable in model.trainable_variables:
        variable.assign(np.random.default_rng(len(variable.path)).normal(0, 1.0, variable.shape))
    return model


@pytest.fixture(scope="module")
def network():
    return made("lstm_textgen")


@pytest.fixture(scope="module", params=SMALL)
def either(request):
    return made(request.param)


@pytest.fixture(scope="module")
def answers():
    card = {"task": "text", "tokenizer": Characters(LETTERS).config(), "state": {}}
    return Answers(card)


def logits_after(network, text):
    tokens = Characters(LETTERS).encode(text)[None]
    return networks.read(network, tf.constant(tokens), networks.empty_state(network, 1))[0][0].numpy()


def test_greedy_text_is_that_of_reading_all_of_it_anew_each_time(either, answers):
    text = "ab"
    for _ in range(12):
        row = logits_after(either, text)[-1]
        row[0] = -np.inf
        text += Characters(LETTERS).decode([row.argmax()])
    assert answers.answer(either, ["ab"], length=12, temperature=0.0)[0]["text"] == text


def test_prompts_of_different_lengths_do_not_touch_each_other(either, answers):
    prompts = ["a", "bcd efg", "", "gg\n"]
    together = answers.answer(either, prompts, length=20, temperature=0.0)
    alone = [answers.answer(either, [p], length=20, temperature=0.0)[0] for p in prompts]
    assert together == alone
    newline = answers.answer(either, ["\n"], length=20, temperature=0.0)[0]
    assert alone[2]["continuation"] == newline["continuation"], "an empty prompt is a line's beginning"


def test_same_seed_same_text_and_the_pieces_of_a_stream_are_the_text(network, answers):
    how = {"length": 150, "temperature": 0.9, "top_k": 5}
    first = answers.answer(network, ["ab"], seed=5, **how)[0]["continuation"]
    assert first == answers.answer(network, ["ab"], seed=5, **how)[0]["continuation"]
    assert first != answers.answer(network, ["ab"], seed=6, **how)[0]["continuation"]
    pieces = list(answers.stream(network, "ab", seed=5, **how))
    assert len(pieces) == 3 and "".join(pieces) == first
    with pytest.raises(kzoo.RequestError, match="top_p is 0"):
        answers.stream(network, "ab", top_p=0.0)  # before anything is asked for
    two = answers.answer(network, ["ab"], seed=5, num=2, **how)
    assert two[0]["continuation"] != two[1]["continuation"]


def test_a_text_that_is_unknown_throughout_is_one_sentence(network, answers, tmp_path):
    (tmp_path / "han.txt").write_text("漢字漢字")
    with pytest.raises(kzoo.RequestError, match=r"han\.txt has no character behind its first that the model knows"):
        answers.judge(network, str(tmp_path / "han.txt"))


def test_a_seed_fixes_what_is_served_whoever_else_asks_with_it(either, answers):
    from kzoo.serving.batching import Batcher
    from kzoo.serving.doors import Model, _of_network
    from kzoo.serving.protocol import read

    model = Model("writer", {}, _of_network(either, answers, answers.blank()))
    assert all(door.batched for door in model.doors.values())
    how = {"length": 30, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "seed": 4}

    async def written(prompts):
        batcher = Batcher(model, max_batch=8, queue=8)
        asked = ({"signature_name": "generate", "inputs": {"prompt": [p], **how}} for p in prompts)
        # All of them wait before the first call.
        found = await asyncio.gather(*[batcher.submit(read(document, model.doors)) for document in asked])
        await batcher.close()
        return [answer["continuation"].item().decode() for answer in found]

    prompts = ["ab", "cd", "fg"]
    together = asyncio.run(written(prompts))
    assert together == [asyncio.run(written([p]))[0] for p in prompts]
    assert together == [answers.answer(either, [p], length=30, seed=4)[0]["continuation"] for p in prompts]


def test_a_client_can_read_step_by_step_from_the_start(either, answers):
    """The state that has read nothing has no places in some networks, which JSON says by an empty list."""
    from kzoo.serving.doors import _of_network
    from kzoo.serving.protocol import read

    door = _of_network(either, answers, answers.blank())["step"]
    state = {name: value.numpy().tolist() for name, value in networks.empty_state(either, 1).items()}
    for place, token in enumerate(Characters(LETTERS).encode("bad").tolist()):
        query = read({"inputs": {"token": [token], **state}}, {"serving_default": door})
        state = {name: value.tolist() for name, value in door.call(query.inputs).items()}
        np.testing.assert_allclose(state.pop("logits")[0], logits_after(either, "bad")[place], rtol=1e-4, atol=1e-4)


def test_the_unknown_character_is_never_written(answers, network):
    written = answers.answer(network, ["a"], length=300, temperature=5.0)[0]["continuation"]
    assert len(written) == 300 and set(written) <= set(LETTERS)


def drawn(choice, logits, count=4000, seen=None):
    """How often each token is chosen."""
    rows = tf.constant(np.repeat(np.float32(logits)[None], count, 0))
    seen = np.zeros(rows.shape, bool) if seen is None else np.repeat(np.array(seen)[None], count, 0)
    tokens = choice.tensors()(rows, tf.constant(seen), sampling.gumbel(rows.shape, 1, 2)).numpy()
    return np.bincount(tokens, minlength=len(logits)) / count


LOGITS = np.log([0.5, 0.25, 0.15, 0.07, 0.03])


def test_draws_follow_the_softmax_at_any_temperature():
    for temperature in (0.5, 1.0, 2.0):
        wanted = np.exp(LOGITS / temperature) / np.exp(LOGITS / temperature).sum()
        found = drawn(sampling.Choice(temperature), LOGITS, count=20_000)
        # Three standard deviations of a share.
        assert (np.abs(found - wanted) < 3 * np.sqrt(wanted * (1 - wanted) / 20_000) + 1e-9).all()


@pytest.mark.parametrize(
    ("choice", "kept"),
    [
        ({"top_k": 2}, 2),
        ({"top_k": 99}, 5),
        ({"top_p": 0.74}, 2),
        ({"top_p": 0.76}, 3),
        ({"top_p": 1e-6}, 1),
        ({"min_p": 0.2}, 3),
        ({"min_p": 1.0}, 1),
        ({"top_k": 3, "top_p": 0.56}, 2),  # of the best three 0.5 is 0.556, so that the second is still needed
        ({"temperature": 0.0}, 1),
    ],
)
def test_only_the_most_probable_are_chosen(choice, kept):
    found = drawn(sampling.Choice(**choice), LOGITS)
    assert (found[:kept] > 0).all() and not found[kept:].any()


@pytest.mark.parametrize("temperature", [1e-7, 1e-38, 1e-44])
def test_the_coldest_take_the_most_probable(temperature):
    """Logits divided by such a number would be infinite, several of them."""
    assert drawn(sampling.Choice(temperature), [30.0, 40.0, 35.0])[1] == 1
    assert drawn(sampling.Choice(temperature, top_p=0.9), [30.0, 40.0, 35.0])[1] == 1


def test_repetition_penalty_divides_positive_and_multiplies_negative_logits():
    choice = sampling.Choice(temperature=0.0, repetition_penalty=2.0)
    assert drawn(choice, [3.0, 2.0, 1.0], seen=[True, False, False])[1] == 1
    assert drawn(choice, [-1.0, -1.5, -3.0], seen=[True, False, False])[1] == 1
    assert drawn(choice, [3.0, 1.0, 1.0], seen=[True, False, False])[0] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0, and takes a finite number of at least 0"),
        ({"temperature": math.inf}, "temperature is inf"),
        ({"temperature": "warm"}, "temperature is 'warm'"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_k": 2.5}, "top_k is 2.5, and takes a whole number"),
        ({"top_k": 1 << 31}, "top_k is 2147483648"),
        ({"top_p": 0.0}, "top_p is 0.0, and takes a number above 0 and at most 1"),
        ({"top_p": 1.5}, "top_p"),
        ({"top_p": math.nan}, "top_p is nan"),
        ({"min_p": 2.0}, "min_p"),
        ({"min_p": -0.1}, "min_p"),
        ({"repetition_penalty": 0.0}, "above 0"),
        ({"repetition_penalty": math.inf}, "repetition_penalty is inf"),
        ({"length": 0}, "length is 0"),
        ({"length": 1 << 31}, "length is 2147483648"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": 1 << 31}, "seed is 2147483648, and takes a whole number from 0 to 2147483647"),
        ({"unknown": "drop"}, "error, skip or keep"),
    ],
)
def test_numbers_out_of_range_are_refused(network, answers, options, message):
    with pytest.raises(kzoo.RequestError, match=message):
        answers.answer(network, ["a"], **options)


def test_unknown_characters_of_a_prompt(network, answers):
    with pytest.raises(kzoo.RequestError, match=r"'x' \(U\+0078, 2 times\).*it knows '\\n abcdefg'"):
        answers.answer(network, ["axbx"])
    skipped = answers.answer(network, ["axbx"], unknown="skip", length=9, temperature=0.0)[0]
    plain = answers.answer(network, ["ab"], length=9, temperature=0.0)[0]
    assert skipped["continuation"] == plain["continuation"] and skipped["text"].startswith("axbx")
    assert answers.answer(network, ["axbx"], unknown="keep", length=9)[0]["input"] == "axbx"


@pytest.mark.parametrize("tokenizer", [Characters("aäö€\n"), Bytes()])
def test_tokenisers_in_a_graph_are_those_of_python(tokenizer):
    texts = ["aä€", "", "ö", "a\na"]
    tokens, starts = tf.function(lambda t: strings.encode(tokenizer, t, 7))(tf.constant(texts))
    for text, row, start in zip(texts, tokens.numpy(), starts.numpy(), strict=True):
        np.testing.assert_array_equal(row[start:], tokenizer.encode(text) if text else [7])
    again = strings.decode(tokenizer, tf.constant(tokenizer.encode("€aö")[:, None]))
    assert again.numpy()[0].decode() == "€aö"


def test_a_graph_reads_an_unknown_character_as_token_0():
    tokens, _ = strings.encode(Characters("ac"), tf.constant(["abcd"]), 1)
    assert tokens.numpy().tolist() == [[1, 0, 2, 0]]
    tokens, starts = strings.encode(Characters("ac"), tf.constant([""]), 1)
    assert tokens.numpy().tolist() == [[1]] and starts.numpy().tolist() == [0]


def hand_computed(network, tokens, begins):
    """Cost of each token but the first, the state being emptied at the given places."""
    found, state = [], networks.empty_state(network, 1)
    for place in range(len(tokens) - 1):
        if place in begins:
            state = networks.empty_state(network, 1)
        logits, state = networks.read(network, tf.constant([[tokens[place]]], tf.int32), state)
        row = logits[0, 0].numpy().astype(np.float64)
        found.append(np.log(np.exp(row).sum()) - row[tokens[place + 1]])
    return np.array(found)


def test_cost_of_each_token_under_both_protocols(either):
    tokens = np.random.default_rng(0).integers(1, 9, 57)
    reading = scoring.carried(len(tokens), chunk=8)
    assert len(reading.places) == 1, "a short text is one row"
    found = scoring.surprise(either, tokens, reading)
    assert math.isnan(found[0])
    np.testing.assert_allclose(found[1:], hand_computed(either, tokens, ()), atol=1e-4)
    cut = scoring.surprise(either, tokens, scoring.windows(len(tokens), 10, rows=3))
    np.testing.assert_allclose(cut[1:], hand_computed(either, tokens, range(0, 57, 10)), atol=1e-4)


@pytest.mark.parametrize("count", [2, 3, 40, 41, 96, 97, 98, 99, 1000])
def test_every_token_is_judged_once(count):
    for reading in (scoring.carried(count, rows=3, warm_up=16, chunk=8), scoring.windows(count, 10, rows=4)):
        counted = np.sort(reading.places[reading.counted])
        np.testing.assert_array_equal(counted, np.arange(count - 1))
        assert reading.places.shape[1] % reading.chunk == 0


def test_rows_read_at_once_cost_what_one_row_costs(network):
    tokens = np.random.default_rng(1).integers(1, 9, 700)
    one = scoring.surprise(network, tokens, scoring.carried(700, rows=1))
    many = scoring.surprise(network, tokens, scoring.carried(700, rows=4, warm_up=64, chunk=16))
    # The first row reads nothing else; what came before the others' warm-up is all but forgotten.
    np.testing.assert_allclose(many[1:170], one[1:170], atol=1e-5)
    assert abs(np.nanmean(many) - np.nanmean(one)) < 1e-3


def test_a_model_that_is_sure_of_the_wrong_has_an_infinite_perplexity():
    costs = np.array([np.nan, 800.0, 900.0], np.float32)
    found = scoring.figures(costs, costs, 8)
    assert found["loss"] == 850 and found["perplexity"] == math.inf


def test_a_page_of_surprise_shows_the_text_as_it_is():
    page = surprise.page("a & b", "<b>é\n", np.array([np.nan, 0.1, 0.2, 7.9, 30.0]), {"bits": 1.25, "tokens": 1234})
    assert "<h1>a &amp; b</h1>" in page and "bits 1.2500  tokens 1,234" in page
    assert "<u>&lt;</u><span style='background:rgb(255,255,255)' title='0 bits'>b&gt;</span>" in page
    assert "title='8 bits'>é</span>" in page and "rgb(255,105,55)" in page


def test_unknown_characters_are_read_but_not_judged(network):
    tokens = np.array([1, 0, 3, 0, 4])
    found = scoring.surprise(network, tokens, scoring.carried(5), never=(0,))
    assert np.isnan(found).tolist() == [True, True, False, True, False]
