"""The cache folder: what is half made is not kept, and a folder that cannot be had is one sentence."""

from pathlib import Path

import pytest

import kzoo
from kzoo import cache
from kzoo.data.reading import Reading
from kzoo.data.text import corpus, sources


def test_an_entry_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path))
    path = cache.entry("things", ["a", 1], ".bin")
    assert path.parent == tmp_path / "things" and path != cache.entry("things", ["a", 2], ".bin")
    with pytest.raises(ZeroDivisionError), cache.making(path) as temporary:
        temporary.write_bytes(b"half")
        raise ZeroDivisionError
    assert not list(path.parent.iterdir())
    with cache.making(path) as temporary:
        temporary.write_bytes(b"whole")
        assert not path.exists()
    assert [p.read_bytes() for p in path.parent.iterdir()] == [b"whole"]


def test_without_a_choice_it_lies_in_the_home_folder(monkeypatch):
    monkeypatch.delenv("KZOO_CACHE", raising=False)
    assert cache.folder("weights") == Path.home() / ".cache" / "kzoo" / "weights"


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    (tmp_path / "t.txt").write_text("abc" * 500)
    monkeypatch.setenv("KZOO_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(corpus, "SMALL", 100)
    monkeypatch.setattr(corpus, "MEMORY_SHARE", 0.0)
    with pytest.raises(kzoo.RequestError, match=rf"the cache folder {tmp_path}/file/text cannot be .*KZOO_CACHE="):
        corpus.open_corpus(sources.documents(f"file:{tmp_path / 't.txt'}", Reading()))
