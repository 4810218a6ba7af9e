"""A training in a process of its own, so that whatever ends it ends nothing else."""

import ctypes
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from kzoo import configs
from kzoo import recipe as recipes
from kzoo.errors import RequestError, WorkError
from kzoo.run import Run, write_text

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def train(folder: Path, recipe: recipes.Recipe, until: int | None = None) -> str:
    """Train a recipe in a process of its own, from the checkpoint in ``run`` if there is one.

    Args:
        folder: Gets ``recipe.yaml``, ``run`` and ``log.txt``.
        recipe: What to train.
        until: Stop after this many epochs in all, to be gone on with.

    Returns:
        Why it failed; empty if it did not.
    """
    out, log = folder / "run", folder / "log.txt"
    write_text(folder / "recipe.yaml", configs.dump(explicit(recipe)))
    if out.is_dir():
        _await_end(out)
        # A run that was killed before its first checkpoint has nothing to go on from, and may be half made.
        if not (out / "checkpoints" / "last.npz").is_file():
            shutil.rmtree(out)
    code = _run(folder / "recipe.yaml", out, log, until)
    if code == 0:
        return ""
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    lines = log.read_text("utf-8", errors="replace").split("\n") if log.is_file() else []
    said = next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")
    return said.removeprefix("kzoo: ")


def _run(recipe: Path, out: Path, log: Path, until: int | None) -> int:
    """Run ``kzoo train`` to its end and return its exit code; what it prints goes to the end of `log`."""
    command = [sys.executable, "-m", "kzoo", "train", str(recipe), "--out", str(out), "--quiet"]
    if until is not None:
        command += ["--until", str(until)]
    with open(log, "ab") as sink:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, preexec_fn=_die_with_parent, check=False
        ).returncode


def _die_with_parent() -> None:
    """Have Linux end this process when the search ends, even by kill -9, so that no training is left behind."""
    if _LIBC is not None:
        _LIBC.prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def _await_end(out: Path) -> None:
    """Wait for a training that a killed search left behind where the system did not end it."""
    while (out / "recipe.yaml").is_file():
        try:
            with Run(out).lock():
                return
        except RequestError:
            time.sleep(1)


def inherit(parent: Path, out: Path) -> None:
    """Start a promoted trial from a copy of its parent's run, which appears whole or not at all.

    Raises:
        WorkError: The parent's run cannot be copied.
    """
    if out.exists():
        return
    partial = out.with_name("run.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(parent, partial)
        partial.rename(out)
    except OSError as error:
        raise WorkError(f"the run {parent} cannot be copied to {out}: {error}") from None


def explicit(recipe: recipes.Recipe) -> dict:
    """A recipe's explicit keys, without those that do not decide a training."""
    values = recipe.model_dump(mode="json", exclude_unset=True)
    return {k: v for k, v in values.items() if k not in ("search", "results")}
