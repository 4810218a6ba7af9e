"""Files that appear whole or not at all, on a disk that has no room for them."""

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from kzoo import files
from kzoo.errors import DiskFull, RequestError, disk_is_full

FULL = Path("/dev/full")
on_a_full_disk = pytest.mark.skipif(not FULL.exists(), reason="there is no device that is always full")


@on_a_full_disk
def test_what_has_no_room_is_named_and_what_was_there_stays(tmp_path):
    path = tmp_path / "last.npz"
    path.write_bytes(b"before")
    with pytest.raises(DiskFull, match=f"^{path} cannot be written: No space left on device$"):
        with files.atomic(path) as temporary:
            temporary.symlink_to(FULL)
            with open(temporary, "wb") as handle:
                np.savez(handle, weights=np.zeros(9))
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


@on_a_full_disk
def test_a_text_without_room_is_no_wrong_request(tmp_path):
    (tmp_path / f".a.{os.getpid()}.txt").symlink_to(FULL)
    with pytest.raises(DiskFull, match=r"/a\.txt cannot be written: No space left on device$"):
        files.write_text(tmp_path / "a.txt", "words")
    with pytest.raises(RequestError, match=r"/b\.txt cannot be written: Is a directory$"):
        (tmp_path / "b.txt").mkdir()
        files.write_text(tmp_path / "b.txt", "words")


def test_other_failures_while_a_file_is_written_keep_their_own_words(tmp_path):
    with pytest.raises(TimeoutError, match="no answer"), files.atomic(tmp_path / "fetched.npz"):
        raise TimeoutError("no answer")


def in_python():
    with open(FULL, "w") as handle:
        handle.write("words")


def behind_another():
    try:
        in_python()
    except OSError:
        raise RequestError("the cache folder cannot be written to") from None


def in_tensorflow():
    import tensorflow as tf

    with tf.io.gfile.GFile(str(FULL), "w") as handle:
        handle.write("words")


def over_quota():
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@on_a_full_disk
@pytest.mark.parametrize("fill", [in_python, behind_another, in_tensorflow, over_quota])
def test_a_full_disk_is_known_by_whatever_meets_it(fill):
    with pytest.raises(Exception) as caught:
        fill()
    assert disk_is_full(caught.value)
    assert not disk_is_full(OSError(errno.EACCES, os.strerror(errno.EACCES))) and not disk_is_full(None)
