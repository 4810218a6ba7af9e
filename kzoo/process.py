"""A training in a process of its own, so that whatever ends it ends nothing else.

As a program, ``python -m kzoo.process PARENT CORES train ...``, it is that process: it ends with the one that started
it, keeps to its cores, and is ``kzoo train`` from there on.
"""

import ctypes
import dataclasses
import errno
import os
import runpy
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from kzoo import configs
from kzoo import recipe as recipes
from kzoo.errors import DiskFull, RequestError, WorkError, disk_is_full
from kzoo.files import write_text
from kzoo.run import Run

_GLANCE = 0.5  # seconds between two looks at a training under way
_DISK_FULL = errno.ENOSPC  # exit code of a training that found no room on a disk


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of a machine that a training may use.

    Attributes:
        cores: Numbers of processor cores; none for all.
        gpus: GPUs as CUDA_VISIBLE_DEVICES names them; None for all.
    """

    cores: tuple[int, ...] = ()
    gpus: tuple[str, ...] | None = None

    def environment(self) -> dict[str, str]:
        """Environment variables that make TensorFlow and the numeric libraries keep to this share."""
        found = dict(os.environ)
        if self.cores:
            count = str(len(self.cores))
            found |= {"OMP_NUM_THREADS": count, "TF_NUM_INTRAOP_THREADS": count, "TF_NUM_INTEROP_THREADS": count}
        if self.gpus is not None:
            found |= {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus), "TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        return found


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a training's process ended.

    Attributes:
        reason: Why it failed; empty if it did not.
        killed: Whether someone killed it, which says nothing about the training; the system's doing for want of memory
            does, and is none.
        stopped: Whether `watch` asked for it.
    """

    reason: str = ""
    killed: bool = False
    stopped: bool = False


def train(
    folder: Path,
    recipe: recipes.Recipe,
    until: int | None = None,
    *,
    share: Share | None = None,
    watch: Callable[[], bool] | None = None,
) -> Ending:
    """Train a recipe in a process of its own, from the checkpoint in ``run`` if there is one.

    Args:
        folder: Gets ``recipe.yaml``, ``run`` and ``log.txt``.
        recipe: What to train.
        until: Stop after this many epochs in all, to be gone on with.
        share: The part of the machine that it may use; all of it by default.
        watch: Called about twice a second while it trains; ends the training by returning true or by raising.

    Raises:
        DiskFull: The training found no room for one of its files; it goes on from its checkpoint when there is some.
    """
    out, log = folder / "run", folder / "log.txt"
    write_text(folder / "recipe.yaml", configs.dump(explicit(recipe)))
    if out.is_dir():
        if not _await_end(out, watch):
            return Ending(stopped=True)
        # A run that was killed before its first checkpoint has nothing to go on from, and may be half made.
        if not (out / "checkpoints" / "last.npz").is_file():
            shutil.rmtree(out)
    memory = _out_of_memory()
    code = _run(folder / "recipe.yaml", out, log, until, share or Share(), watch or (lambda: False))
    if code is None:
        return Ending(stopped=True)
    if code == 0:
        return Ending()
    if code == -signal.SIGKILL and _out_of_memory() > memory:
        return Ending("the system had no memory left for it and killed it")
    if code < 0:
        return Ending(f"killed by {signal.Signals(-code).name}", killed=-code in (signal.SIGKILL, signal.SIGTERM))
    lines = log.read_text("utf-8", errors="replace").split("\n") if log.is_file() else []
    said = next((line.strip().removeprefix("kzoo: ") for line in reversed(lines) if line.strip()), "")
    if code == _DISK_FULL:
        raise DiskFull(f"{said or 'a training had no room for a word on it'} (log: {log})")
    return Ending(said or f"exit code {code}")


def _run(recipe: Path, out: Path, log: Path, until: int | None, share: Share, watch: Callable[[], bool]) -> int | None:
    """Run ``kzoo train`` to its end and return its exit code, None if `watch` ended it; its words go to `log`."""
    cores = ",".join(map(str, share.cores))
    command = [sys.executable, "-m", "kzoo.process", str(os.getpid()), cores]
    command += ["train", str(recipe), "--out", str(out), "--quiet"]
    if until is not None:
        command += ["--until", str(until)]
    with open(log, "ab") as sink:
        # In a session of its own, for a Ctrl-C that is meant for the search must not fail its trials.
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            env=share.environment(),
            start_new_session=True,
        )
        try:
            while True:
                try:
                    return child.wait(_GLANCE)
                except subprocess.TimeoutExpired:
                    if watch():
                        return None
        finally:
            # A checkpoint appears whole or not at all, so that no moment is a wrong one.
            child.kill()
            child.wait()


def _out_of_memory() -> int:
    """How many processes the system has killed for want of memory, here or else in this container."""
    for path in (Path("/sys/fs/cgroup/memory.events"), Path("/proc/vmstat")):
        try:
            for line in path.read_text().splitlines():
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        except (OSError, ValueError):
            continue
    return 0


def _await_end(out: Path, watch: Callable[[], bool] | None = None) -> bool:
    """Wait for a training that a killed search left behind where the system did not end it.

    Returns:
        Whether it has ended; false where `watch` did not want it any more before that.
    """
    while (out / "recipe.yaml").is_file():
        try:
            with Run(out).lock():
                break
        except RequestError:
            if watch and watch():
                return False
            time.sleep(_GLANCE)
    return True


def inherit(parent: Path, out: Path) -> None:
    """Start a promoted trial from a copy of its parent's run, which appears whole or not at all.

    Raises:
        WorkError: The parent's run cannot be copied, for want of room or otherwise.
    """
    if out.exists():
        return
    partial = out.with_name("run.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        shutil.copytree(parent, partial)
        partial.rename(out)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        kind = DiskFull if disk_is_full(error) else WorkError
        raise kind(f"the run {parent} cannot be copied to {out}: {error}") from None


def explicit(recipe: recipes.Recipe) -> dict:
    """A recipe's explicit keys, without those that do not decide a training."""
    values = recipe.model_dump(mode="json", exclude_unset=True)
    return {k: v for k, v in values.items() if k not in ("search", "results", "tuned")}


def main(arguments: list[str]) -> None:
    """Become ``kzoo`` with the arguments after the first two, bound to a parent and to cores."""
    parent, cores, *rest = arguments
    if sys.platform == "linux":
        # Linux then ends this process with its parent, even by kill -9, so that no training is left behind.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
        if os.getppid() != int(parent):
            sys.exit("kzoo: the search that started this training has ended")
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [int(core) for core in cores.split(",")])
    sys.argv = ["kzoo", *rest]
    try:
        runpy.run_module("kzoo", run_name="__main__")
    except BaseException as error:  # the command line's exit too, which has what went wrong for its context
        if not disk_is_full(error):
            raise
        # The log may lie on that disk too, and an exit that cannot flush it has a code of its own.
        os._exit(_DISK_FULL)


if __name__ == "__main__":
    main(sys.argv[1:])
