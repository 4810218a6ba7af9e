"""What numbers something takes, in one form for the command line, Python, recipes and HTTP."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from kzoo.errors import RequestError

# The largest numbers of the types in which graphs hold them.
LARGEST, LARGEST_WHOLE = float(np.finfo(np.float32).max), int(np.iinfo(np.int32).max)


@dataclass(frozen=True)
class Range:
    """The numbers from one to another.

    Attributes:
        low: The least.
        high: The greatest; `LARGEST` for any number that is finite.
        above: Whether `low` itself is none of them.
        whole: Whether only whole numbers are.
    """

    low: float
    high: float = LARGEST
    above: bool = False
    whole: bool = False

    def __str__(self):
        kind = "whole number" if self.whole else "number"
        if self.high == LARGEST:
            return f"a finite {kind} {'above' if self.above else 'of at least'} {self.low}"
        if self.above:
            return f"a {kind} above {self.low} and at most {self.high}"
        return f"a {kind} from {self.low} to {self.high}"

    @property
    def bounds(self) -> dict[str, float]:
        """The same as arguments of pydantic's ``Field``."""
        return {"gt" if self.above else "ge": self.low, "le": self.high}

    def check(self, name: str, given: Any) -> None:
        """Refuse what is out of the range.

        Args:
            name: What to call it in the message.
            given: A number, or an array of them.

        Raises:
            RequestError: One of them is out of the range, no whole number where only such are taken, or no number.
        """
        values = np.asarray(given)
        if values.dtype.kind not in ("iu" if self.whole else "iuf"):
            raise RequestError(f"{name} is {given!r}, and takes {self}")
        with np.errstate(over="ignore"):
            # As a graph will hold it: 1e-50 is 0 there, and 1e39 no number.
            held = values.astype(np.float32) if values.dtype.kind == "f" else values
        right = (held > self.low if self.above else held >= self.low) & (held <= self.high)
        if not right.all():
            verb = "holds" if values.ndim else "is"
            raise RequestError(f"{name} {verb} {values[~right].flat[0]}, and takes {self}")
