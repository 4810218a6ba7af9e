"""What the zoo says while it works: on standard error, so that standard output carries facts alone."""

import sys

_quiet = False


def set_quiet(quiet: bool) -> None:
    """Say nothing but errors from now on, or talk again."""
    global _quiet
    _quiet = quiet


def live() -> bool:
    """Whether someone watches a terminal that can show a moving line."""
    return not _quiet and sys.stderr.isatty()


def say(text: str, end: str = "\n") -> None:
    """Print one line of progress."""
    if not _quiet:
        # The end of a moving line that was longer than this one is erased.
        print(text, end="\033[K" + end if live() else end, file=sys.stderr, flush=True)
