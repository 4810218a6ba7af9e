"""The cache folder: what is half made is not kept, and a folder that cannot be had is one sentence."""

import errno
import functools
import os
from pathlib import Path

import numpy as np
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


def test_an_array_is_filled_in_its_file(tmp_path):
    with cache.filling(tmp_path / "a.npy", np.int32, (2, 3)) as values:
        values[:] = np.arange(6).reshape(2, 3)
        assert not (tmp_path / "a.npy").exists()
    assert np.load(tmp_path / "a.npy").tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system reserves no room")
def test_an_array_has_its_room_before_it_is_filled(tmp_path, monkeypatch):
    """Filling a hole where there is none would kill the process by SIGBUS."""

    def reserve(handle, start, length, code=errno.ENOSPC):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "posix_fallocate", reserve)
    with pytest.raises(kzoo.RequestError, match=rf"{tmp_path} cannot be written to \(No space left on device\)"):
        with cache.filling(tmp_path / "a.npy", np.uint8, (9,)):
            raise AssertionError("there is no room to fill")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(os, "posix_fallocate", functools.partial(reserve, code=errno.EOPNOTSUPP))
    with cache.filling(tmp_path / "a.npy", np.uint8, (9,)) as values:
        values[:] = 7
    assert np.load(tmp_path / "a.npy").tolist() == [7] * 9


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
