"""How the validation return of a control recipe's runs rose: at each of its evaluations, seed by seed.

    python tools/learning_curve.py dqn_nature_cnn/pong-cpu --seeds 0 1 --write

Run `reproduce.py` first; other recipes' rows stay on record.
"""

import argparse
import csv
import json
from pathlib import Path

from measurements import load, save

from kzoo.run import Run

# Evaluations that are shown of a training, evenly spaced, the last one among them.
ROWS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a shipped recipe, such as dqn_nature_cnn/pong-cpu")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="where reproduce.py's runs are")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    figures = rows(given.recipe, {seed: Run(given.out / given.recipe / f"s{seed}") for seed in given.seeds})
    print(json.dumps(figures, indent=1))
    if given.write:
        others = load().get("learning_curve", {"figures": {}})["figures"]
        kept = {name: row for name, row in others.items() if not name.startswith(f"{given.recipe}, ")}
        save("learning_curve", kept | figures)


def rows(recipe: str, runs: dict[int, Run]) -> dict[str, dict]:
    """Returns by number of steps, and when the last of the runs ended."""
    measured = max(run.summary["finished"] for run in runs.values())[:10]
    curves = {seed: returns(run) for seed, run in runs.items()}
    steps = sorted(set.intersection(*(set(curve) for curve in curves.values())))
    every = -(-len(steps) // ROWS)
    shown = steps[::-1][::every][::-1]
    return {
        f"{recipe}, {step:,} steps": {"measured": measured}
        | {f"seed {seed}": round(curve[step], 1) for seed, curve in curves.items()}
        for step in shown
    }


def returns(run: Run) -> dict[int, float]:
    """Validation return of a run by number of steps."""
    with (run.path / "metrics.csv").open(newline="", encoding="utf-8") as file:
        return {int(row["steps"]): float(row["val_return"]) for row in csv.DictReader(file)}


if __name__ == "__main__":
    main()
