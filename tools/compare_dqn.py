"""What the control recipes reach, beside what their peers do: run `reproduce.py` first, with its default --out.

    python tools/compare_dqn.py --sb3-python SB3 --write

All finished seeds of the recipes as they stand count; a recipe without any is left out. Of the zoo it is the final
policy of each seed, over 100 episodes, and the kept one, which its evaluations chose. Of rl-zoo3 it is what its
benchmark.md states, one run each; highway-env's own example is trained here, by an interpreter that has
stable-baselines3 and highway-env, unless --out holds its returns already.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from measurements import save

from kzoo import recipe
from kzoo.run import Run, write_json

ROOT = Path(__file__).resolve().parents[1]
EPISODES = 100
# rl-zoo3, benchmark.md, rows "dqn": mean return after as many steps as the recipe takes.
PUBLISHED = {"cartpole": 500.0, "acrobot": -76.639, "mountaincar": -100.849, "lunarlander": 154.382}
WANTED = {"cartpole": 475.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="where reproduce.py's runs are")
    parser.add_argument("--sb3-python", help="an interpreter that has stable-baselines3 and highway-env")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    runs = {name: finished(f"dqn_mlp/{name}", given.out) for name in (*PUBLISHED, "highway-fast")}
    figures = {name: row(name, found, given) for name, found in runs.items() if found}
    print(json.dumps(figures, indent=1))
    if given.write:
        save("dqn_learning", figures)


def finished(name: str, out: Path) -> list[Run]:
    """A recipe's finished runs, in the order of their seeds."""
    runs = [Run(folder) for folder in sorted((out / name).glob("s*")) if (folder / "summary.json").is_file()]
    return [r for r in runs if r.origin["requested"] == recipe.load(name, {"train.seed": seed_of(r)}).digest()]


def seed_of(run: Run) -> int:
    return run.summary["seed"]


def row(name: str, runs: list[Run], given) -> dict:
    """One recipe's figures and its peer's."""
    final = [run.summary["training"]["final_return"] for run in runs]
    kept = [run.summary["test"]["return"] for run in runs]
    found = {
        "steps": runs[0].summary["training"]["steps"],
        "final mean": round(statistics.mean(final), 1),
        "final, each seed": ", ".join(f"{v:.1f}" for v in final),
        "kept mean": round(statistics.mean(kept), 1),
    }
    if name in WANTED:
        reached = [first(run, WANTED[name]) for run in runs]
        found[f"steps to {WANTED[name]:g}, median"] = round(statistics.median(reached))
    if name in PUBLISHED:
        return {**found, "peer": "rl-zoo3, published", "peer mean": round(PUBLISHED[name], 1)}
    theirs = [statistics.mean(example(seed, given)) for seed in map(seed_of, runs)]
    told = ", ".join(f"{v:.1f}" for v in theirs)
    peer = {"peer": "highway-env's example", "peer mean": round(statistics.mean(theirs), 1), "peer, each seed": told}
    return {**found, **peer}


def first(run: Run, wanted: float) -> float:
    """Steps before the first evaluation that reached so much; infinity where none did."""
    return min((int(r["steps"]) for r in run.metrics() if float(r["val_return"]) >= wanted), default=float("inf"))


def example(seed: int, given) -> list[float]:
    """Returns of highway-env's own example."""
    known = given.out / "highway-example" / f"s{seed}.json"
    if not known.is_file():
        command = [given.sb3_python or sys.executable, str(ROOT / "tools/driving_worker.py"), str(seed), str(EPISODES)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"highway-env's example failed: {done.stderr.strip().splitlines()[-1]}")
        known.parent.mkdir(parents=True, exist_ok=True)
        write_json(known, json.loads(done.stdout.strip().splitlines()[-1]))
    return json.loads(known.read_text("utf-8"))


if __name__ == "__main__":
    main()
