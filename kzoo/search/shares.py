"""Which part of this machine each of several trainings at once may use."""

import os
import re
from pathlib import Path

from kzoo.errors import RequestError
from kzoo.process import Share


def share_out(workers: int) -> list[Share]:
    """Divide this process's cores among workers, and the GPUs that it may use.

    One worker has everything. Cores are never shared; where there are fewer GPUs than workers, these take turns on one
    and its memory is taken as it is needed.

    Raises:
        RequestError: There are more workers than cores.
    """
    if workers < 1:
        raise RequestError(f"workers is {workers}: it takes a number of trials at once")
    if workers == 1:
        return [Share()]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    if workers > len(cores):
        raise RequestError(f"workers is {workers}, and this process may use {len(cores)} cores: one worker needs one")
    each = len(cores) // workers
    gpus = _gpus()
    return [Share(tuple(cores[n * each : (n + 1) * each]), _own_gpus(gpus, n, workers)) for n in range(workers)]


def _own_gpus(gpus: list[str], number: int, workers: int) -> tuple[str, ...] | None:
    if not gpus:
        return None
    return tuple(gpus[number::workers]) or (gpus[number % len(gpus)],)


def _gpus() -> list[str]:
    """GPUs by the names that CUDA_VISIBLE_DEVICES takes."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        return [name.strip() for name in chosen.split(",") if name.strip() and name.strip() != "-1"]
    found = [re.fullmatch(r"nvidia(\d+)", path.name) for path in Path("/dev").glob("nvidia*")]
    return [str(number) for number in range(sum(match is not None for match in found))]
