"""A model server's folder, ``<models>/<name>/<version>/``: what a model may be called there, and its versions."""

import re
from pathlib import Path

from kzoo.errors import RequestError


def check_name(name: str) -> None:
    """See whether a model's name can be a folder and a part of an address.

    Raises:
        RequestError: It cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise RequestError(f"a served model's name has letters, digits and _ . - and not {name!r}")


def present(folder: Path) -> list[int]:
    """Versions in a model's folder, lowest first."""
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if p.name.isdecimal() and p.is_dir())
