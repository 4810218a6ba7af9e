"""What a result depends on beside its recipe: the versions, the hardware, and when it was."""

import contextlib
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

from kzoo import _version

_VERSIONED = ("kzoo", "keras", "tensorflow", "jax", "torch", "numpy", "keras-tuner", "tensorflow-datasets")


def now() -> str:
    """The time in UTC, to the second, in ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def environment() -> dict:
    """Versions and hardware that a result depends on."""
    versions = {}
    for package in _VERSIONED:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    versions.setdefault("kzoo", _version.__version__)
    return {
        "versions": versions,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "backend": os.environ.get("KERAS_BACKEND", "tensorflow"),
    }


def hardware(machine: dict) -> str:
    """Processor and number of cores of an `environment`, in words."""
    return f"{machine['processor']}, {machine['cores']} core{'s' if machine['cores'] > 1 else ''}"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
