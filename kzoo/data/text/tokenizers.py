"""Texts to tokens and back: by characters, or by bytes of UTF-8."""

import codecs
import threading
from collections import Counter

import numpy as np

from kzoo.errors import RequestError, nearest

# What stands in a decoded text for a token that is no known character.
REPLACEMENT = "�"


class Characters:
    """One token for each character of a vocabulary; token 0 stands for every character that is not in it.

    Attributes:
        vocabulary: The known characters, in the order of their code points.
        size: Number of tokens.
        unit: What a token is called.
        never: Tokens that no text should be continued with.
    """

    kind, unit, never = "characters", "character", (0,)

    def __init__(self, vocabulary: str):
        self.vocabulary = "".join(sorted(set(vocabulary)))
        self.codes = np.array([ord(c) for c in self.vocabulary], np.uint32)
        self.size = len(self.vocabulary) + 1

    def encode(self, text: str) -> np.ndarray:
        """Tokens of a text, int32 (characters,)."""
        return self.encode_codes(code_points(text)).astype(np.int32)

    def encode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Tokens of code points, in the smallest type that holds them."""
        places = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[places] == codes, places + 1, 0).astype(smallest_type(self.size))

    def decode(self, tokens) -> str:
        """The text of tokens; token 0 becomes U+FFFD."""
        table = np.concatenate([[ord(REPLACEMENT)], self.codes]).astype("<u4")
        return table[np.asarray(tokens, np.int64)].tobytes().decode("utf-32-le", "surrogatepass")

    def starts(self, tokens: np.ndarray) -> np.ndarray:
        """At which tokens a character of the decoded text begins, bool (tokens,)."""
        return np.ones(len(tokens), bool)

    def streaming(self):
        """A function that decodes consecutive pieces of a token sequence; the last piece comes with ``final=True``."""
        return lambda tokens, final=False: self.decode(tokens)

    def unknown(self, text: str) -> Counter:
        """How often each character of a text occurs that is not in the vocabulary."""
        return Counter({c: n for c, n in Counter(text).items() if c not in self.vocabulary})

    def config(self) -> dict:
        """What `from_config` needs."""
        return {"kind": self.kind, "vocabulary": self.vocabulary}


class Bytes:
    """One token for each byte of the text's UTF-8; every text can be written so, and a text that is none can come out.

    Attributes: see `Characters`.
    """

    kind, unit, never, size = "bytes", "byte", (), 256

    def encode(self, text: str) -> np.ndarray:
        """Tokens of a text, int32 (bytes,)."""
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)

    def encode_codes(self, codes: np.ndarray) -> np.ndarray:
        """Tokens of bytes, which are the bytes themselves."""
        return codes

    def decode(self, tokens) -> str:
        """The text of tokens; what is no UTF-8 becomes U+FFFD."""
        return np.asarray(tokens, np.uint8).tobytes().decode("utf-8", "replace")

    def starts(self, tokens: np.ndarray) -> np.ndarray:
        """See `Characters.starts`; bytes that are no UTF-8 are one character where one U+FFFD stands for them."""
        # The first byte of a character is none of the form 10......
        tokens = np.asarray(tokens, np.uint8)
        found = (tokens & 0xC0) != 0x80

        def replace(error):
            found[error.start], found[error.start + 1 : error.end] = True, False
            return REPLACEMENT, error.end

        # Python keeps such a function by its name for good: one for each thread.
        name = f"kzoo-starts-{threading.get_ident()}"
        codecs.register_error(name, replace)
        tokens.tobytes().decode("utf-8", name)
        return found

    def streaming(self):
        """See `Characters.streaming`; a character whose bytes lie in two pieces comes with the second one."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda tokens, final=False: decoder.decode(np.asarray(tokens, np.uint8).tobytes(), final)

    def unknown(self, text: str) -> Counter:
        """Nothing is unknown."""
        return Counter()

    def config(self) -> dict:
        """What `from_config` needs."""
        return {"kind": self.kind}


def from_config(config: dict) -> Characters | Bytes:
    """The tokeniser that `config` described.

    Raises:
        RequestError: There is no such kind, or its vocabulary is missing.
    """
    kind = config.get("kind")
    if kind == "bytes":
        return Bytes()
    if kind != "characters":
        raise RequestError(f"there is no tokenizer {kind!r}{nearest(str(kind), ['characters', 'bytes'])}")
    if not isinstance(config.get("vocabulary"), str) or not config["vocabulary"]:
        raise RequestError("a tokenizer of characters needs its vocabulary, a string")
    return Characters(config["vocabulary"])


def code_points(text: str) -> np.ndarray:
    """Code points of a text, uint32 (characters,)."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def smallest_type(count: int) -> type:
    """The smallest unsigned type that holds `count` different numbers."""
    return np.uint8 if count <= 1 << 8 else np.uint16 if count <= 1 << 16 else np.uint32
