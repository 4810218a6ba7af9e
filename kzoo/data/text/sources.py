"""Text sources: ``kind:rest`` to documents that are read in blocks."""

import functools
import glob
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from kzoo.data.reading import Reading
from kzoo.data.sources import tfds
from kzoo.errors import RequestError, nearest

# Of a folder, what is taken for a text; each also with .gz behind it.
SUFFIXES = (".txt", ".text", ".md", ".rst")
BLOCK = 1 << 22  # bytes


@dataclass(frozen=True)
class Document:
    """One text.

    Attributes:
        name: What to call it in messages.
        blocks: Gives the document's bytes from its start, a few megabytes at a time; raises RequestError where it
            cannot be read.
        identity: What changes when the text does: size and time of a file, a version of a data set.
    """

    name: str
    blocks: Callable[[], Iterator[bytes]]
    identity: tuple


def documents(source: str, reading: Reading) -> list[Document]:
    """The documents of a source, in a fixed order.

    Args:
        source: ``builtin:pydoc``, ``tfds:NAME``, ``file:PATH``, ``folder:PATH`` or ``glob:PATTERN``; files whose name
            ends in ``.gz`` are unpacked as they are read.
        reading: Folder of TFDS data, and whether they may be fetched.

    Raises:
        RequestError: Unknown kind, or nothing is there.
    """
    kind, rest = _parts(source)
    if kind == "builtin":
        return [_builtin(rest)]
    if kind == "tfds":
        return [_tfds(rest, reading)]
    return [_file(path) for path in _paths(kind, rest)]


def check(source: str, reading: Reading) -> None:
    """Raise what is wrong with a source as far as a look at the disk tells, which needs no TensorFlow."""
    kind, rest = _parts(source)
    if kind == "builtin":
        _builtin(rest)
    elif kind == "tfds":
        tfds.check(rest, reading)
    else:
        _paths(kind, rest)


def located(source: str, reading: Reading) -> dict:
    """The recipe's data keys for a source, with absolute paths."""
    kind, rest = _parts(source)
    if kind == "builtin":
        return {"source": source}
    if kind == "tfds":
        return tfds.located(rest, reading)
    # resolve() would read a wildcard's characters as a name's, which is what is wanted
    return {"source": f"{kind}:{Path(rest).expanduser().absolute()}"}


_FORMS = {
    "builtin": "builtin:pydoc",
    "tfds": "tfds:NAME",
    "file": "file:PATH",
    "folder": "folder:PATH",
    "glob": "glob:PATTERN",
}


def _parts(source: str) -> tuple[str, str]:
    kind, colon, rest = source.partition(":")
    if kind not in _FORMS or not colon or not rest:
        hint = nearest(kind, _FORMS) if kind not in _FORMS else ""
        raise RequestError(f"data.source {source!r} is none of {', '.join(_FORMS.values())}{hint}")
    return kind, rest


def _paths(kind: str, rest: str) -> list[Path]:
    path = Path(rest).expanduser()
    if kind == "file":
        if not path.is_file():
            raise RequestError(f"data.source file:{rest}: there is no such file")
        return [path]
    if kind == "folder":
        if not path.is_dir():
            raise RequestError(f"data.source folder:{rest}: there is no such folder")
        found = [p for p in path.rglob("*") if _is_text(p)]
        known = ", ".join(SUFFIXES)
        if not found:
            raise RequestError(f"data.source folder:{rest} holds no {known}, nor these with .gz; glob: takes any name")
        return sorted(found)
    found = sorted(Path(p) for p in glob.glob(str(path), recursive=True) if Path(p).is_file())
    if not found:
        raise RequestError(f"data.source glob:{rest} matches no file")
    return found


def _is_text(path: Path) -> bool:
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES) and path.is_file() and path.name[0] != "."


def _file(path: Path) -> Document:
    status = path.stat()
    identity = (str(path.absolute()), status.st_size, status.st_mtime_ns)
    return Document(str(path), functools.partial(_read, path), identity)


def _read(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            while block := file.read(BLOCK):
                yield block
    except (OSError, EOFError, zlib.error) as error:
        raise RequestError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _builtin(name: str) -> Document:
    """``builtin:pydoc``: what Python's ``help()`` says of the language, which every CPython carries."""
    if name != "pydoc":
        raise RequestError(f"there is no built-in text {name!r}{nearest(name, ['pydoc'])}")
    from pydoc_data import topics

    text = "\n\n".join(topics.topics[topic].strip("\n") for topic in sorted(topics.topics)) + "\n"
    encoded = text.encode("utf-8")
    return Document("builtin:pydoc", lambda: iter([encoded]), (zlib.crc32(encoded),))


def _tfds(name: str, reading: Reading) -> Document:
    """The splits' texts as one: training, validation, test; examples of one split are joined by line ends."""
    builder = tfds.open_builder(name, reading)
    if "text" not in builder.info.features:
        raise RequestError(f"tfds:{name} has no feature 'text'; it has {', '.join(builder.info.features)}")
    order = {"train": 0, "validation": 1, "test": 2}
    splits = sorted(builder.info.splits, key=lambda s: (order.get(s, 3), s))

    def blocks():
        for split in splits:
            examples = builder.as_dataset(split=split, shuffle_files=False).as_numpy_iterator()
            for number, example in enumerate(examples):
                yield (b"\n" if number else b"") + example["text"]

    return Document(f"tfds:{name}", blocks, (str(builder.data_dir), builder.info.full_name))
