"""A text on which each character is coloured by what it cost a language model."""

import html
import itertools
import math

import numpy as np

# Characters that a page shows at most: a browser is slow with more.
MOST = 50_000
# Bits at which the colour no longer changes; 8 is a chance of 1 in 256.
DEEPEST = 8

_STYLE = """
body { font: 15px/1.6 ui-monospace, monospace; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; } u { text-decoration-color: #999; }
"""


def page(title: str, text: str, bits: np.ndarray, figures: dict) -> str:
    """An HTML page that needs nothing else.

    Args:
        title: What to call it.
        text: The text.
        bits: Bits of each character, (characters,); NaN for those that were not judged, which are underlined.
        figures: Shown above the text.
    """
    head = "  ".join(f"{k} {f'{v:.4f}' if isinstance(v, float) else f'{v:,}'}" for k, v in figures.items())
    scale = "".join(_span(f" {b} ", b) for b in range(DEEPEST + 1))
    pairs = zip(text, (-1 if math.isnan(b) else min(round(2 * float(b)) / 2, 99) for b in bits), strict=True)
    body = "".join(
        _span("".join(c for c, _ in group), value) for value, group in itertools.groupby(pairs, lambda pair: pair[1])
    )
    name = html.escape(title)
    return (
        f"<!doctype html><meta charset='utf-8'><title>{name}</title><style>{_STYLE}</style><h1>{name}</h1>"
        f"<p>{html.escape(head)}</p><p>bits {scale}</p><pre>{body}</pre>\n"
    )


def _span(text: str, bits: float) -> str:
    """Characters of the same cost."""
    if bits < 0:
        return f"<u>{html.escape(text)}</u>"
    share = min(bits / DEEPEST, 1)
    colour = f"rgb(255,{round(255 - 150 * share)},{round(255 - 200 * share)})"
    return f"<span style='background:{colour}' title='{bits:g} bits'>{html.escape(text)}</span>"
