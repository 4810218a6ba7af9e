"""The two kinds of failure that a user meets, and the help that a message gives."""

import difflib
import errno
import os
from collections.abc import Iterable

_FULL = (errno.ENOSPC, errno.EDQUOT)


class KzooError(Exception):
    """A failure that is explained by its one sentence; the command line prints it without a traceback."""

    exit_code = 1


class RequestError(KzooError, ValueError):
    """The request was wrong: an unknown name, a bad value, a missing file. Exit code 2."""

    exit_code = 2


class WorkError(KzooError, RuntimeError):
    """The request was right and the work failed: a diverged training, a verification that differs. Exit code 1."""

    exit_code = 1


class DiskFull(WorkError):
    """A file cannot be written because there is no room left for it."""


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that a disk has no room left.

    Libraries in C++ say so in their message alone, with the system's words for it.
    """
    while error is not None:
        if isinstance(error, DiskFull) or (isinstance(error, OSError) and error.errno in _FULL):
            return True
        if any(os.strerror(code) in str(error) for code in _FULL):
            return True
        error = error.__cause__ or error.__context__
    return False


def first_line(error: BaseException) -> str:
    """What an error says first, for libraries add pages; its kind where it says nothing."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return the end of a sentence that names what the user may have meant.

    Args:
        name: What was asked for.
        known: The valid names.
        count: How many to name at most.

    Returns:
        ``"; did you mean 'a' or 'b'?"``, or ``"; valid: 'a', 'b', ..."`` where nothing is near, or ``""``.
    """
    known = sorted({str(k) for k in known})
    close = difflib.get_close_matches(str(name), known, n=count, cutoff=0.5)
    # An abbreviation ("lr" is none, "label" for "label_smoothing" is one) is near although its ratio is low.
    close += [k for k in known if k not in close and len(str(name)) > 2 and (str(name) in k or k in str(name))]
    if close:
        return "; did you mean " + " or ".join(repr(k) for k in close[:count]) + "?"
    if not known:
        return ""
    listed = ", ".join(repr(k) for k in known[:12]) + (", ..." if len(known) > 12 else "")
    return f"; valid: {listed}"
