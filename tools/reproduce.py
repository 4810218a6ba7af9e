"""Train a recipe over several seeds and record the result in the recipe's file.

    python tools/reproduce.py cnn_classifier/digits --seeds 0 1 2 --write

Each seed is one `kzoo train` in a process of its own. With --write the recipe's first line and its ``results:`` are
replaced by what was measured; runs that are finished already (--out holds them) are not trained again.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from measurements import shown

from kzoo import configs, recipe
from kzoo.run import Run


def main() -> None:
    """Parse the arguments, train what is missing, print and record the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a shipped recipe, such as cnn_classifier/digits")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--metric", default="accuracy", help="figure of the test part, or else of the validation part")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="where the runs go")
    parser.add_argument("--root", type=Path, help="the data set's folder, where the recipe leaves data.root open")
    parser.add_argument("--write", action="store_true", help="record the result in the recipe's file")
    given = parser.parse_args()

    runs = [train(given.recipe, seed, given.out, given.root) for seed in given.seeds]
    result = summarize(given.recipe, given.metric, given.seeds, runs)
    # Where it lies on this machine is nobody else's business.
    result["command"] += " --root FOLDER" if given.root else ""
    print(json.dumps(result, indent=1))
    if given.write:
        record(given.recipe, result)


def train(name: str, seed: int, out: Path, root: Path | None = None) -> tuple[Run, float]:
    """Train one seed, or go on with it; returns the run and the wall time of the whole process in seconds."""
    folder = out / name / f"s{seed}"
    clock = folder.with_suffix(".seconds")
    settings = {"train.seed": seed, **({"data.root": str(root)} if root else {})}
    sets = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    command = [sys.executable, "-m", "kzoo", "train", name, *sets, "--out", str(folder)]
    if not (folder / "summary.json").is_file():
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        before = float(clock.read_text()) if clock.is_file() else 0.0
        clock.write_text(str(before + time.perf_counter() - began))
    run, wanted = Run(folder), recipe.load(name, settings).digest()
    if run.origin["requested"] != wanted:
        sys.exit(f"{folder} is a run of an earlier form of {name}: remove it, or name another --out")
    return run, float(clock.read_text())


def summarize(name: str, metric: str, seeds: list[int], runs: list[tuple[Run, float]]) -> dict:
    """The record of a result: what was measured, how, on what, when."""
    part = "test" if runs[0][0].summary["test"] else "validation"
    values = [run.summary[part][metric] for run, _ in runs]
    machine = runs[-1][0].summary["environment"]
    return {
        "metric": f"{part} {metric}",
        "mean": round(statistics.mean(values), 5),
        "std": round(statistics.stdev(values), 5) if len(values) > 1 else None,
        "values": [round(v, 5) for v in values],
        "seeds": seeds,
        "minutes": round(statistics.mean(seconds for _, seconds in runs) / 60, 2),
        "hardware": f"{machine['processor']}, {machine['cores']} core{'s' if machine['cores'] > 1 else ''}",
        "versions": {k: machine["versions"][k] for k in ("kzoo", "keras", "tensorflow")},
        "date": runs[-1][0].summary["finished"][:10],
        "command": f"python tools/reproduce.py {name} --seeds {' '.join(map(str, seeds))}"
        + (f" --metric {metric}" if metric != "accuracy" else ""),
        "digest": recipe.load(name).digest()[:16],
    }


def record(name: str, result: dict) -> None:
    """Replace the recipe's first comment line and its results, and leave the rest of the file as it is."""
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
    path.write_text(f"{line}\n{body}\n{configs.dump({'results': [result]})}", "utf-8")
    recipe.load(name)


if __name__ == "__main__":
    main()
