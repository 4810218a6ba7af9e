"""Answers on the terminal: tables, JSON, reports of exports, and figures in words."""

import json
from collections.abc import Callable
from typing import Any

from kzoo.errors import KzooError


def table(header: list[str], rows: list[list[Any]]) -> None:
    """Print aligned columns of plain text; a pipe has no width, so that lines stay whole there, for grep and files."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    # A file may be called [b] or :cat: by its owner.
    out = Console(emoji=False, markup=False, highlight=False)
    drawn = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in header:
        drawn.add_column(name, overflow="fold")
    for row in rows:
        drawn.add_row(*(str(cell) for cell in row))
    if not out.is_terminal:
        out.width = 1 << 20
        out.width = Measurement.get(out, out.options, drawn).maximum
    out.print(drawn)


def as_json(values: Any) -> None:
    """Print JSON; what is no plain value, such as a path, is written as text, and what is not finite as null."""
    from kzoo.files import finite

    print(json.dumps(finite(values), indent=1, default=str))


def report(work: Callable, in_json: bool, publish: Callable | None = None) -> None:
    """Do an export's work, publish what it made, and print its report, also the report of one that fails.

    Args:
        work: Gives the report.
        in_json: Print it as JSON, with ``published``, the place, if it is.
        publish: From the report to the place where it is published.
    """
    found, published, failure = None, {}, None
    try:
        found = work()
        if publish is not None:
            published = {"published": publish(found)}
    except KzooError as error:
        found, failure = getattr(error, "report", found), error
    if found is not None and in_json:
        as_json(found.as_dict() | published)
    elif found is not None:
        header, *rows = found.rows()
        table(header, rows)
    if failure is not None:
        raise failure
    if not in_json:
        print(f"verified {found.folder}")
        for place in published.values():
            print(f"published {place}")


def number(value: int | None) -> str:
    """A count, with a question mark where it is not known."""
    return "?" if value is None else f"{value:,}"


def short(value: Any) -> str:
    """A figure of three digits; anything else as it is."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def figure(value: Any) -> str:
    """A figure with four decimal places; anything else as it is."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)
