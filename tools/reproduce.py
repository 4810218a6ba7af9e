"""Train a recipe over several seeds and record the result in the recipe's file.

    python tools/reproduce.py cnn_classifier/digits --seeds 0 1 2 --write

Each seed is one `kzoo train` in a process of its own. With --write the recipe's first line and its ``results:`` are
replaced by what was measured; runs that are finished already (--out holds them) are not trained again.
"""

import argparse
import copy
import functools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measurements import shown

from kzoo import configs, recipe
from kzoo.files import write_text
from kzoo.machine import hardware
from kzoo.run import Run


def main() -> None:
    """Parse the arguments, train what is missing, print and record the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a shipped recipe, such as cnn_classifier/digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--metric",
        nargs="+",
        default=["accuracy"],
        help="figures of the test part, or else of the validation part or the training; details by dotted keys, such "
        "as per_class.Car.f1; the first is the headline",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="where the runs go")
    parser.add_argument("--root", type=Path, help="the data set's folder, where the recipe leaves data.root open")
    parser.add_argument("--write", action="store_true", help="record the result in the recipe's file")
    given = parser.parse_args()

    runs = [train(given.recipe, seed, given.out, given.root) for seed in given.seeds]
    results = summarize(given.recipe, given.metric, given.seeds, runs)
    if given.root:
        # Where it lies on this machine is nobody else's business.
        results = [{**r, "command": r["command"] + " --root FOLDER"} for r in results]
    print(json.dumps(results, indent=1))
    if given.write:
        record(given.recipe, results)


def train(name: str, seed: int, out: Path, root: Path | None = None, changes: dict | None = None) -> tuple[Run, float]:
    """Train one seed, or go on with it; returns the run and the wall time of the whole process in seconds.

    Args:
        name: A shipped recipe.
        seed: Its ``train.seed``.
        out: Where the run goes, below the recipe's name.
        root: Its ``data.root``.
        changes: Further settings by dotted key.
    """
    folder = out / name / f"s{seed}"
    clock = folder.with_suffix(".seconds")
    settings = {"train.seed": seed, **({"data.root": str(root)} if root else {}), **(changes or {})}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = [sys.executable, "-m", "kzoo", "train", name, *sets, "--out", str(folder)]
    if not (folder / "summary.json").is_file():
        # The clock of a run that was removed counts no more.
        before = _read(clock) if folder.is_dir() else 0.0
        began = time.perf_counter()
        try:
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        finally:
            # What was interrupted is part of the whole: a training that is gone on with does not do it again.
            write_text(clock, str(before + time.perf_counter() - began))
    run, wanted = Run(folder), recipe.load(name, settings).digest()
    if run.origin["requested"] != wanted:
        sys.exit(f"{folder} is a run of an earlier form of {name}: remove it, or name another --out")
    # The run's own clock knows of the trainings that were killed, or done by hand, but not of starts and ends.
    return run, max(_read(clock), run.summary["training"]["seconds"])


def _read(clock: Path) -> float:
    return float(clock.read_text()) if clock.is_file() else 0.0


def summarize(name: str, metrics: list[str], seeds: list[int], runs: list[tuple[Run, float]]) -> list[dict]:
    """The records of the results, one for each metric: what was measured, how, on what, when."""
    summary = runs[-1][0].summary
    machine = summary["environment"]
    common = {
        "seeds": seeds,
        # A seed that shared the cores with other work says little of how long one takes.
        "minutes": round(statistics.median(seconds for _, seconds in runs) / 60, 2),
        "hardware": hardware(machine),
        "versions": {k: machine["versions"][k] for k in ("kzoo", "keras", "tensorflow")},
        "date": summary["finished"][:10],
        "command": f"python tools/reproduce.py {name} --seeds {' '.join(map(str, seeds))}"
        + (f" --metric {' '.join(metrics)}" if metrics != ["accuracy"] else ""),
        "digest": recipe.load(name).digest()[:16],
    }
    part = "test" if summary["test"] else "validation"
    found = []
    for metric in metrics:
        judged = "." in metric or metric in (summary[part] or {})
        values = [figure(run, part, metric) if judged else run.summary["training"][metric] for run, _ in runs]
        found.append(
            {
                "metric": f"{part} {metric}" if judged else metric.replace("_", " "),
                "mean": round(statistics.mean(values), 5),
                "std": round(statistics.stdev(values), 5) if len(values) > 1 else None,
                "values": [round(v, 5) for v in values],
                **copy.deepcopy(common),  # YAML would write what is the same object as an alias
            }
        )
    return found


def figure(run: Run, part: str, metric: str) -> float:
    """A headline figure of a part, or one of its details by dotted keys, such as ``per_class.Car.f1``."""
    if metric in run.summary[part]:
        return run.summary[part][metric]
    details = json.loads((run.path / "evaluation" / part / "figures.json").read_text("utf-8"))
    try:
        return functools.reduce(lambda level, key: level[key], metric.split("."), details)
    except (KeyError, TypeError):
        sys.exit(f"{run.path} has no figure {metric} of its {part} part")


def record(name: str, results: list[dict]) -> None:
    """Replace the recipe's first comment line and its results, and leave the rest of the file as it is."""
    result = results[0]
    path = configs.FOLDER / f"{name}.yaml"
    body = path.read_text("utf-8").partition("\nresults:")[0].rstrip("\n")
    if body.startswith("# kzoo train "):
        body = body.partition("\n")[2]
    spread = f" +- {shown(result['metric'], result['std'])}" if result["std"] is not None else ""
    count = f"{len(result['seeds'])} seed{'s' if len(result['seeds']) > 1 else ''}"
    line = (
        f"# kzoo train {name}: {result['minutes']:.1f} minutes on {result['hardware']}, "
        f"{result['metric']} {shown(result['metric'], result['mean'])}{spread}, {count}, {result['date']}"
    )
    write_text(path, f"{line}\n{body}\n{configs.dump({'results': results})}")
    recipe.load(name)


if __name__ == "__main__":
    main()
