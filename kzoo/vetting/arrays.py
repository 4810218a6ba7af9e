"""Files of NumPy's arrays (``.npz``)."""

import math
import zipfile
from pathlib import Path

import numpy as np

from kzoo.errors import RequestError


def check_arrays(path: Path, most: int) -> None:
    """Refuse a file whose arrays are larger than they may be, than the file says, or no plain numbers.

    Args:
        path: A zip of arrays.
        most: Bytes that all of them may have together, uncompressed.

    Raises:
        RequestError: It is such a file, or is missing or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > most:
                raise RequestError(f"{path} holds {size:,} bytes of arrays, and {most:,} is the most it may")
            for member in members:
                _check_member(path, archive, member)
    except RequestError:
        raise
    except FileNotFoundError:
        raise RequestError(f"there is no file {path}") from None
    except Exception as error:  # a damaged zip raises one of a dozen types
        raise RequestError(f"{path} cannot be read: it is damaged ({error})") from None


def header(archive: zipfile.ZipFile, member: str | zipfile.ZipInfo) -> tuple[tuple[int, ...], np.dtype]:
    """Shape and dtype of an array, of which nothing else is read."""
    with archive.open(member) as handle:
        version = np.lib.format.read_magic(handle)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(handle)
    return shape, dtype


def _check_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """An array's place is made by what its header says, before the first of its bytes is read."""
    shape, dtype = header(archive, member)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize > member.file_size:
        raise RequestError(f"{path} holds {member.filename!r} of {shape} {dtype}, which are not its bytes")
