"""Documents to one sequence of tokens with a training, a validation and a test part.

A text is read in blocks, never as a whole: once to count its characters, once for the vocabulary of the training part,
once to write the tokens. Tokens that would fill the memory lie in a file of the cache folder (``KZOO_CACHE``) instead.
"""

import codecs
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kzoo import cache, console
from kzoo.data.text import tokenizers
from kzoo.data.text.sources import Document
from kzoo.errors import RequestError

# Texts up to this size in bytes are kept decoded between the passes; beyond it they are read anew.
SMALL = 1 << 26
# Tokens up to this share of the free memory are kept there.
MEMORY_SHARE = 0.25
PARTS = ("train", "validation", "test")
_SURROGATES = range(0xD800, 0xE000)


@dataclass(frozen=True)
class Corpus:
    """A text as tokens.

    Attributes:
        parts: Tokens by part, consecutive pieces of the text; a part of no tokens is left out.
        tokenizer: What made the tokens.
        sha256: Of the whole text's tokens and its vocabulary, hexadecimal.
        replaced: How many sequences of bytes were no UTF-8 and were replaced by U+FFFD.
        unknown: How many characters of each part are not in the vocabulary.
    """

    parts: dict[str, np.ndarray]
    tokenizer: tokenizers.Characters | tokenizers.Bytes
    sha256: str
    replaced: int
    unknown: dict[str, int]


def open_corpus(
    documents: list[Document],
    *,
    tokenizer: str = "characters",
    errors: str = "strict",
    min_count: int = 1,
    validation: float = 0.1,
    test: float = 0.0,
) -> Corpus:
    """Read documents as one text, and cut it: training, validation, test.

    Args:
        documents: In order; where one does not end with a line end, one is put between it and the next.
        tokenizer: ``characters`` or ``bytes``.
        errors: ``strict``, or ``replace`` for U+FFFD in the place of what is no UTF-8; of bytes nothing is asked.
        min_count: Characters that the training part has less often become unknown ones.
        validation: Share of the text before the test part.
        test: Share of the text at its end.

    Raises:
        RequestError: A document cannot be read or is no UTF-8, or a part is too short.
    """
    reader = _Reader(documents, errors if tokenizer == "characters" else None)
    count = sum(len(block) for block in reader.blocks())
    ends = _ends(count, validation, test)
    if tokenizer == "bytes":
        chosen = tokenizers.Bytes()
    else:
        chosen = tokenizers.Characters(_vocabulary(reader, ends["train"][1], min_count))
    identity = [d.identity for d in documents], tokenizer, errors, chosen.config()
    tokens = _store(reader, chosen, count, identity)
    digest = hashlib.sha256(json.dumps(chosen.config(), sort_keys=True).encode())
    parts, unknown = {}, {}
    for name, (start, end) in ends.items():
        parts[name] = tokens[start:end]
        unknown[name] = 0
        for first in range(start, end, SMALL):
            piece = tokens[first : min(first + SMALL, end)]
            digest.update(piece.tobytes())
            unknown[name] += int(np.count_nonzero(piece == 0)) if tokenizer == "characters" else 0
    return Corpus(parts, chosen, digest.hexdigest(), reader.replaced, unknown)


def read(documents: list[Document], tokenizer: tokenizers.Characters | tokenizers.Bytes, errors: str = "strict"):
    """Tokens of documents that are read as one text, by a tokeniser that is known already.

    Returns:
        Tokens (count,), in the smallest type.

    Raises:
        RequestError: A document cannot be read or is no UTF-8, or it has fewer than 2 tokens.
    """
    reader = _Reader(documents, errors if isinstance(tokenizer, tokenizers.Characters) else None)
    count = sum(len(block) for block in reader.blocks())
    if count < 2:
        raise RequestError(f"{documents[0].name} has {count} {tokenizer.unit}s, and judging a text takes at least 2")
    return _store(reader, tokenizer, count, ([d.identity for d in documents], errors, tokenizer.config()))


class _Reader:
    """Blocks of code points of a text, or of bytes, as often as they are asked for."""

    def __init__(self, documents: list[Document], errors: str | None):
        self.documents, self.errors, self.replaced = documents, errors, 0
        self._kept: list[np.ndarray] | None = None

    def blocks(self) -> Iterator[np.ndarray]:
        """uint32 code points, or uint8 bytes where no errors are asked about."""
        if self._kept is not None:
            yield from self._kept
            return
        kept, size, self.replaced = [], 0, 0
        for block in self._read():
            size += len(block)
            if size <= SMALL:
                kept.append(block)
            else:
                kept.clear()
            yield block
        if size <= SMALL:
            self._kept = kept

    def _read(self) -> Iterator[np.ndarray]:
        last = None
        for document in self.documents:
            begun = False
            for block in self._decoded(document):
                if len(block):
                    if not begun and last not in (None, 10):
                        yield np.array([10], block.dtype)
                    begun, last = True, int(block[-1])
                    yield block

    def _decoded(self, document: Document) -> Iterator[np.ndarray]:
        if self.errors is None:
            for block in document.blocks():
                yield np.frombuffer(block, np.uint8)
            return
        errors = _COUNTING if self.errors == "replace" else self.errors
        decoder, read = codecs.getincrementaldecoder("utf-8")(errors), 0
        for block in document.blocks():
            pending = len(decoder.getstate()[0])
            yield tokenizers.code_points(self._decode(document, decoder, block, read - pending)).astype(np.uint32)
            read += len(block)
        pending = len(decoder.getstate()[0])
        yield tokenizers.code_points(self._decode(document, decoder, b"", read - pending, final=True)).astype(np.uint32)

    def _decode(self, document: Document, decoder, block: bytes, start: int, final: bool = False) -> str:
        _replaced.count = 0
        try:
            text = decoder.decode(block, final)
        except UnicodeDecodeError as error:
            place, wrong = start + error.start, error.object[error.start]
            raise RequestError(
                f"{document.name} is no UTF-8: byte 0x{wrong:02x} at offset {place:,} ({error.reason}); "
                "data.errors=replace reads it all the same, data.tokenizer=bytes takes any file"
            ) from None
        self.replaced += _replaced.count
        return text.removeprefix("\ufeff") if start == 0 else text


def _replace(error: UnicodeDecodeError) -> tuple[str, int]:
    """What `str.decode` does with ``replace``, counted."""
    _replaced.count += 1
    return tokenizers.REPLACEMENT, error.end


# Python keeps such a function by its name for good, and with it all that it refers to: one for all readers.
_replaced = threading.local()
_COUNTING = "kzoo-replace"
codecs.register_error(_COUNTING, _replace)


def _ends(count: int, validation: float, test: float) -> dict[str, tuple[int, int]]:
    """First place of each part that has any tokens, and the place behind its last."""
    if validation + test >= 1:
        raise RequestError(f"data.validation {validation} and data.test {test} leave nothing of the text to train on")
    # Shares such as 0.1 are not exact: without rounding, 0.9 of 10 would be 9 or 8.
    places = [0, *(int(round(count * share, 6)) for share in (1 - validation - test, 1 - test)), count]
    found = {name: (places[i], places[i + 1]) for i, name in enumerate(PARTS) if places[i] < places[i + 1]}
    for name, share in (("train", 1.0), ("validation", validation), ("test", test)):
        start, end = found.get(name, (0, 0))
        if share and end - start < 2:
            raise RequestError(f"the text has {count:,} characters, and its {name} part {end - start}; 2 are needed")
    return found


def _vocabulary(reader: _Reader, end: int, min_count: int) -> str:
    """Characters that the first `end` places have often enough."""
    counts, place = np.zeros(0x110000, np.int64), 0
    for block in reader.blocks():
        if place >= end:
            break
        # As long as the block's largest code point asks for: texts may come in many small blocks.
        found = np.bincount(block[: end - place])
        counts[: len(found)] += found
        place += len(block)
    # A character that stands for unknown ones is none to be known, and half a surrogate pair is none at all.
    known = [c for c in np.flatnonzero(counts >= min_count).tolist() if c != 0xFFFD and c not in _SURROGATES]
    if not known:
        raise RequestError(f"no character occurs {min_count} times in the training part (data.min_count)")
    return "".join(map(chr, known))


def _store(reader: _Reader, tokenizer, count: int, identity: tuple) -> np.ndarray:
    """All tokens, in memory, or in a file that the next training finds again."""
    import psutil

    kind = tokenizers.smallest_type(tokenizer.size)
    size = count * np.dtype(kind).itemsize
    if size <= max(SMALL, MEMORY_SHARE * psutil.virtual_memory().available):
        return _fill(np.empty(count, kind), reader, tokenizer)
    path = cache.entry("text", identity, ".npy")
    if not path.is_file():
        console.say(f"writing {count:,} tokens to {path}")
        with cache.filling(path, kind, (count,)) as tokens:
            _fill(tokens, reader, tokenizer)
    return np.load(path, mmap_mode="r")


def _fill(tokens: np.ndarray, reader: _Reader, tokenizer) -> np.ndarray:
    place = 0
    for block in reader.blocks():
        tokens[place : place + len(block)] = tokenizer.encode_codes(block)
        place += len(block)
    return tokens
