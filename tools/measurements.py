"""Figures that benchmarks write and RESULTS.md is made of: one JSON file each, in ``tools/measurements/``."""

import itertools
import json
import sys
from pathlib import Path

from kzoo.files import write_json
from kzoo.machine import environment, hardware, now

FOLDER = Path(__file__).parent / "measurements"


def save(name: str, figures: dict) -> None:
    """Record a benchmark's figures with the command that runs, versions, hardware and date."""
    machine = environment()
    FOLDER.mkdir(exist_ok=True)
    record = {
        "command": command(sys.argv),
        "date": now()[:10],
        "hardware": hardware(machine),
        "versions": {k: machine["versions"][k] for k in ("kzoo", "keras", "tensorflow")},
        "figures": figures,
    }
    write_json(FOLDER / f"{name}.json", record)


def command(arguments: list[str]) -> str:
    """A tool's call as others would type it: where something lies on this machine is nobody else's business."""
    told = [f"tools/{Path(arguments[0]).name}"]
    for before, argument in itertools.pairwise(arguments):
        if Path(argument).is_absolute():
            argument = before.strip("-").replace("-", "_").upper() if before.startswith("--") else "PATH"
        told.append(argument)
    return " ".join(["python", *told])


def load() -> dict[str, dict]:
    """All records by name."""
    return {p.stem: json.loads(p.read_text("utf-8")) for p in sorted(FOLDER.glob("*.json"))}


def shown(metric: str, value: float) -> str:
    """A figure as people read it: shares such as an accuracy in per cent, returns, losses and bits as they are."""
    if "return" in metric:
        return f"{value:.1f}"
    return f"{value:.2%}" if "accuracy" in metric or "f1" in metric else f"{value:.4f}"
