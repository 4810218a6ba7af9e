"""What the control recipes reach, beside stable-baselines3 with the settings that its users take.

    python tools/compare_dqn.py --train acrobot --sb3-python SB3 --write

Of the zoo it is what the recipes have on record (`reproduce.py --metric return final_return`): the final policy of each
seed, over 100 episodes, and the kept one, which its evaluations chose. The peer is rl-zoo3's recipe, or highway-env's
own example, trained here over as many seeds, its final policy over 100 episodes too, by an interpreter that has
stable-baselines3 (and highway-env); beside it stands the one run that rl-zoo3 publishes. What is not trained now, and
what --out does not hold, stays as it is on record.
"""

import argparse
import datetime
import json
import statistics
import subprocess
import sys
from pathlib import Path

from measurements import load, save

from kzoo import recipe
from kzoo.files import write_json
from kzoo.run import Run

WORKER = Path(__file__).with_name("sb3_worker.py")
EPISODES = 100
# rl-zoo3, benchmark.md, rows "dqn": mean return after as many steps as the recipe takes.
PUBLISHED = {"cartpole": 500.0, "acrobot": -76.639, "mountaincar": -100.849, "lunarlander": 154.382}
NAMES = (*PUBLISHED, "highway-fast")
WANTED = {"cartpole": 475.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", nargs="+", choices=NAMES, default=[], help="recipes whose peer is to be trained")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="seeds of the peer")
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="where runs are and peers' returns go")
    parser.add_argument("--sb3-python", default=sys.executable, help="an interpreter that has stable-baselines3")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    before = load()["dqn_learning"]
    known = {name: dated(figures, before["date"]) for name, figures in before["figures"].items()}
    figures = {name: known.get(name, {}) | row(name, given) for name in NAMES}
    print(json.dumps(figures, indent=1))
    if given.write:
        save("dqn_learning", figures)


def row(name: str, given) -> dict:
    """What one recipe has on record, and what is known of its peer."""
    ours = recipe.load(f"dqn_mlp/{name}")
    recorded = {r["metric"]: r for r in ours.results}
    final, kept = recorded["final return"], recorded["test return"]
    found = {
        "steps": ours.train.steps,
        "final mean": round(final["mean"], 1),
        "final, each seed": ", ".join(f"{v:.1f}" for v in final["values"]),
        "kept mean": round(kept["mean"], 1),
    }
    runs = finished(f"dqn_mlp/{name}", given.out)
    if name in WANTED and runs:
        reached = [first(run, WANTED[name]) for run in runs]
        found[f"steps to {WANTED[name]:g}, median"] = round(statistics.median(reached))
    if name in PUBLISHED:
        found["published by rl-zoo3"] = round(PUBLISHED[name], 1)
    if name in given.train:
        means = [statistics.mean(peer(name, seed, given)) for seed in given.seeds]
        found["peer, trained here"] = round(statistics.mean(means), 1)
        found["peer, each seed"] = ", ".join(f"{v:.1f}" for v in means)
        last = max(peer_file(name, seed, given).stat().st_mtime for seed in given.seeds)
        found["peer trained on"] = str(datetime.date.fromtimestamp(last))
    return found


def dated(figures: dict, date: str) -> dict:
    """A row on record with the day on which its peer was trained, which is the record's where it says none."""
    day = {"peer trained on": figures.get("peer trained on", date)} if "peer, trained here" in figures else {}
    return {k: v for k, v in figures.items() if k != "peer trained on"} | day


def finished(name: str, out: Path) -> list[Run]:
    """The runs of a recipe as it stands that `reproduce.py` has finished there."""
    runs = [Run(folder) for folder in sorted((out / name).glob("s*")) if (folder / "summary.json").is_file()]
    return [r for r in runs if r.origin["requested"] == recipe.load(name, {"train.seed": r.summary["seed"]}).digest()]


def first(run: Run, wanted: float) -> float:
    """Steps before the first evaluation that reached so much; infinity where none did."""
    return min((int(r["steps"]) for r in run.metrics() if float(r["val_return"]) >= wanted), default=float("inf"))


def peer(name: str, seed: int, given) -> list[float]:
    """Returns of the peer's final policy, trained with this seed."""
    known = peer_file(name, seed, given)
    if not known.is_file():
        command = [given.sb3_python, str(WORKER), name, str(seed), str(EPISODES)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"stable-baselines3 failed on {name}: {done.stderr.strip().splitlines()[-1]}")
        known.parent.mkdir(parents=True, exist_ok=True)
        write_json(known, json.loads(done.stdout.strip().splitlines()[-1]))
    return json.loads(known.read_text("utf-8"))


def peer_file(name: str, seed: int, given) -> Path:
    """Where the returns of a peer's training are kept."""
    return given.out / "stable-baselines3" / name / f"s{seed}.json"


if __name__ == "__main__":
    main()
