"""Texts: sources, tokenisers, parts, chunks."""

import gc
import gzip
import itertools
import weakref

import numpy as np
import pytest

import kzoo
from kzoo.data.reading import Reading
from kzoo.data.text import batches, corpus, sources, tokenizers

TEXT = "Über allen Gipfeln\nist Ruh,\nin allen Wipfeln\nspürest du\nkaum einen Hauch.\n"


def opened(source, **how):
    return corpus.open_corpus(sources.documents(str(source), Reading()), **how)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "second.md").write_text("two")
    (tmp_path / "first.txt").write_text("one\n")
    (tmp_path / "third.txt.gz").write_bytes(gzip.compress(b"three"))
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    return tmp_path


def whole(found):
    return found.tokenizer.decode(np.concatenate(list(found.parts.values())))


def test_a_folder_is_read_in_the_order_of_its_paths_with_gzip_unpacked(folder):
    # One line end is put where a document has none.
    assert whole(opened(f"folder:{folder}", validation=0.0)) == "two\none\nthree"
    assert whole(opened(f"glob:{folder}/*.txt*", validation=0.0)) == "one\nthree"


def test_characters_round_trip_and_unknown_ones_are_token_0():
    tokenizer = tokenizers.Characters("abcab")
    assert tokenizer.size == 4 and tokenizer.vocabulary == "abc"
    np.testing.assert_array_equal(tokenizer.encode("cabx\U0001f600a"), [3, 1, 2, 0, 0, 1])
    assert tokenizer.decode([3, 1, 0]) == "ca�"
    assert tokenizer.unknown("axxb€") == {"x": 2, "€": 1}
    again = tokenizers.from_config(tokenizer.config())
    assert again.vocabulary == "abc"


def test_bytes_round_trip_and_a_character_may_come_in_two_pieces():
    tokenizer = tokenizers.Bytes()
    tokens = tokenizer.encode("ü€")
    assert tokens.tolist() == list("ü€".encode())
    decode = tokenizer.streaming()
    assert decode(tokens[:1]) + decode(tokens[1:3]) + decode(tokens[3:], final=True) == "ü€"
    assert tokenizer.decode([0xC3]) == "�"


@pytest.mark.parametrize("seed", range(20))
def test_characters_begin_where_the_decoded_text_has_them_also_in_what_is_no_utf8(seed):
    rng, tokenizer = np.random.default_rng(seed), tokenizers.Bytes()
    pieces = [*"aü€😀\ufffd", b"\x80", b"\xe2\x82", b"\xf0\x9f\x98", b"\xc3", b"\xff", b"\xed\xa0\x80", b"\xf0\x80"]
    chosen = (pieces[n] for n in rng.integers(len(pieces), size=30))
    tokens = np.frombuffer(b"".join(p if isinstance(p, bytes) else p.encode() for p in chosen), np.uint8)
    places = [*np.flatnonzero(tokenizer.starts(tokens)), len(tokens)]
    assert places[0] == 0
    characters = [tokenizer.decode(tokens[a:b]) for a, b in itertools.pairwise(places)]
    assert all(len(c) == 1 for c in characters) and "".join(characters) == tokenizer.decode(tokens)


def test_the_vocabulary_is_that_of_the_training_part_and_what_it_lacks_is_counted(tmp_path):
    (tmp_path / "t.txt").write_text("ab" * 45 + "abxxaxbabz")
    found = opened(f"file:{tmp_path / 't.txt'}")
    assert found.tokenizer.vocabulary == "ab"
    assert {k: len(v) for k, v in found.parts.items()} == {"train": 90, "validation": 10}
    assert found.unknown == {"train": 0, "validation": 4}
    rare = opened(f"file:{tmp_path / 't.txt'}", validation=0.0, min_count=2)
    assert rare.tokenizer.vocabulary == "abx" and rare.unknown == {"train": 1}


def test_parts_are_cut_in_order(tmp_path):
    (tmp_path / "t.txt").write_text(TEXT)
    found = opened(f"file:{tmp_path / 't.txt'}", validation=0.2, test=0.1)
    count = len(TEXT)
    assert [len(v) for v in found.parts.values()] == [
        int(0.7 * count),
        int(0.9 * count) - int(0.7 * count),
        count - int(0.9 * count),
    ]


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_bytes_that_are_no_utf8_are_named_by_their_offset(tmp_path, monkeypatch, block):
    monkeypatch.setattr(sources, "BLOCK", block)
    path = tmp_path / "latin.txt"
    path.write_bytes("grün €".encode() + "schön".encode("latin-1"))
    with pytest.raises(kzoo.RequestError, match=r"latin.txt is no UTF-8: byte 0xf6 at offset 12 .*data.errors=replace"):
        opened(f"file:{path}")
    replaced = opened(f"file:{path}", errors="replace", validation=0.0)
    assert replaced.replaced == 1 and whole(replaced) == "grün €sch�n"
    assert whole(opened(f"file:{path}", tokenizer="bytes", validation=0.0)) == "grün €sch�n"


def test_replacing_keeps_nothing_of_a_text_that_is_no_longer_used(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"a\xffb\xffc")
    documents = sources.documents(f"file:{tmp_path / 't.txt'}", Reading())
    document = weakref.ref(documents[0])
    assert corpus.open_corpus(documents, errors="replace", validation=0.0).replaced == 2
    del documents
    gc.collect()
    assert document() is None


def test_a_text_that_ends_within_a_character_is_named_too(tmp_path):
    (tmp_path / "t.txt").write_bytes("abc€".encode()[:-1])
    with pytest.raises(kzoo.RequestError, match="offset 3"):
        opened(f"file:{tmp_path / 't.txt'}")


def test_a_byte_order_mark_is_no_character(tmp_path):
    (tmp_path / "t.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert whole(opened(f"file:{tmp_path / 't.txt'}", validation=0.0)) == "abc"


def test_a_text_larger_than_memory_lies_in_a_file_and_is_the_same(tmp_path, monkeypatch):
    (tmp_path / "t.txt").write_text(TEXT * 50)
    source = f"file:{tmp_path / 't.txt'}"
    small = opened(source)
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(corpus, "SMALL", 100)
    monkeypatch.setattr(corpus, "MEMORY_SHARE", 0.0)
    monkeypatch.setattr(sources, "BLOCK", 64)
    for _ in range(2):
        large = opened(source)
        assert isinstance(large.parts["train"], np.memmap)
        assert large.sha256 == small.sha256
        np.testing.assert_array_equal(large.parts["validation"], small.parts["validation"])
    assert len(list((tmp_path / "cache" / "text").iterdir())) == 1


def test_tiny_shakespeare_is_cut_as_nanogpt_cuts_it(tfds_dir, monkeypatch):
    if not (tfds_dir / "tiny_shakespeare").is_dir():
        pytest.skip("no prepared tiny_shakespeare")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tfds_dir))
    found = opened("tfds:tiny_shakespeare")
    assert {k: len(v) for k, v in found.parts.items()} == {"train": 1_003_854, "validation": 111_540}
    assert len(found.tokenizer.vocabulary) == 65
    assert found.tokenizer.decode(found.parts["train"][:14]) == "First Citizen:"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("fil:x", "did you mean 'file'"),
        ("builtin:pydocs", "did you mean 'pydoc'"),
        ("file:/nowhere.txt", "no such file"),
        ("folder:/nowhere", "no such folder"),
        ("glob:/nowhere/*.txt", "matches no file"),
    ],
)
def test_a_source_that_is_not_there_is_one_sentence(source, message):
    with pytest.raises(kzoo.RequestError, match=message):
        sources.check(source, Reading())


def test_a_folder_without_texts_and_a_broken_archive_are_named(tmp_path):
    with pytest.raises(kzoo.RequestError, match=r"holds no \.txt"):
        sources.check(f"folder:{tmp_path}", Reading())
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(b"abc" * 99)[:-9])
    with pytest.raises(kzoo.RequestError, match=r"t.txt.gz cannot be read"):
        opened(f"folder:{tmp_path}")


def test_the_built_in_text_is_real_and_long():
    found = opened("builtin:pydoc")
    assert sum(map(len, found.parts.values())) > 300_000
    assert "statement" in found.tokenizer.decode(found.parts["train"][:2000])


def test_lanes_go_on_where_they_stopped_and_cover_the_text():
    tokens = np.arange(1000) % 251
    lanes = batches.Lanes(tokens.astype(np.uint8), batch_size=4, length=10, seed=3)
    assert lanes.steps_per_pass == 25
    chunks = [lanes.chunk(step) for step in range(25)]
    for (before, _), (after, resets) in itertools.pairwise(chunks):
        np.testing.assert_array_equal(before[:, -1], after[:, 0])
        assert not resets.any()
    assert chunks[0][1].all() and lanes.chunk(25)[1].all(), "a pass begins anew"
    read = np.sort(np.concatenate([c[:, :-1].reshape(-1) for c, _ in chunks]))
    np.testing.assert_array_equal(read, np.sort(tokens))
    assert not np.array_equal(lanes.chunk(25)[0], chunks[0][0]), "each pass begins elsewhere"


def test_chunks_are_a_function_of_seed_and_step_alone():
    tokens = np.random.default_rng(0).integers(0, 60, 5000).astype(np.uint8)
    for kind in (batches.Lanes, batches.Windows):
        make = lambda seed, kind=kind: kind(tokens, batch_size=8, length=16, seed=seed)  # noqa: E731
        first, again, other = make(1), make(1), make(2)
        again.chunk(3)
        for a, b in zip(first.chunk(77), again.chunk(77), strict=True):
            np.testing.assert_array_equal(a, b)
        assert not np.array_equal(first.chunk(77)[0], other.chunk(77)[0])


def test_some_lanes_forget_by_chance():
    lanes = batches.Lanes(np.zeros(100_000, np.uint8), batch_size=50, length=10, reset=0.2)
    share = np.mean([lanes.chunk(step)[1].mean() for step in range(1, 100)])
    assert 0.15 < share < 0.25


def test_windows_begin_anew_and_predict_the_next_token():
    tokens = np.arange(3000)
    found, resets = batches.Windows(tokens, batch_size=8, length=16).chunk(5)
    assert resets.all() and (np.diff(found, axis=1) == 1).all() and found.max() < 3000


def test_a_text_too_short_for_a_batch_is_refused():
    with pytest.raises(kzoo.RequestError, match="64 x 100"):
        batches.Lanes(np.zeros(6399, np.uint8), batch_size=64, length=100)
