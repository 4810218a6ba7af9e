"""The zoo's DQN against stable-baselines3's and CleanRL's, at equal settings, in turn on the same cores.

    python tools/bench_dqn.py --sb3-python SB3 --cleanrl CHECKOUT --cleanrl-python CLEANRL --write

Each side trains in a process of its own, on one thread; in each round every job is done once, so that what else the
machine does meets all of them alike. What counts is the processor time of the training, with the zoo's tracing, its
checkpoint and one episode of its evaluation. Settings: rl-zoo3's for CartPole (its hyperparams/dqn.yml of 2022), the
defaults of CleanRL's dqn.py, and the Nature network on Pong (rl-zoo3's for Atari, with a small memory). CleanRL's
program takes one update at a time, whatever the others do.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from measurements import load, save

from kzoo.machine import now

ROOT = Path(__file__).resolve().parents[1]
_COMMON = {"discount": 0.99, "env": "CartPole-v1"}
JOBS = {
    "CartPole, rl-zoo3's settings": {
        **_COMMON,
        **{"steps": 50_000, "hidden": [256, 256], "batch_size": 64, "learning_rate": 2.3e-3, "capacity": 100_000},
        **{"starts": 1_000, "train_every": 256, "gradient_steps": 128, "target_every": 128, "loss": "huber"},
        **{"clip": 10.0, "final": 0.04, "share": 0.16},
    },
    "CartPole, CleanRL's settings": {
        **_COMMON,
        **{"steps": 50_000, "hidden": [120, 84], "batch_size": 128, "learning_rate": 2.5e-4, "capacity": 10_000},
        **{"starts": 10_000, "train_every": 10, "gradient_steps": 1, "target_every": 50, "loss": "mse"},
        **{"clip": None, "final": 0.05, "share": 0.5},
    },
}
# The same gradient steps on the same steps in the environment, four of them in one call: they come a little later.
JOBS["CartPole, CleanRL's settings, four updates at a time"] = {
    **JOBS["CartPole, CleanRL's settings"],
    **{"train_every": 40, "gradient_steps": 4},
}
_PONG = {
    **_COMMON,
    **{"env": "ALE/Pong-v5", "stack": 4, "steps": 3_000, "batch_size": 32, "learning_rate": 1e-4},
    **{"capacity": 5_000, "starts": 500, "train_every": 4, "gradient_steps": 1, "target_every": 2_500},
    **{"loss": "huber", "clip": 10.0, "final": 0.1, "share": 0.1},
}
JOBS |= {
    "Pong, rl-zoo3's settings, float32": _PONG,
    # What the zoo takes by itself: half precision where the machine has instructions for it.
    "Pong, rl-zoo3's settings, the zoo's precision": {**_PONG, "precision": "auto"},
}
SIDES = {
    "CartPole, rl-zoo3's settings": ("kzoo", "sb3"),
    "CartPole, CleanRL's settings": ("kzoo", "cleanrl", "sb3"),
    "CartPole, CleanRL's settings, four updates at a time": ("kzoo", "cleanrl", "sb3"),
    "Pong, rl-zoo3's settings, float32": ("kzoo", "sb3"),
    "Pong, rl-zoo3's settings, the zoo's precision": ("kzoo", "sb3"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sb3-python", help="an interpreter that has stable-baselines3")
    parser.add_argument("--cleanrl", help="a checkout of CleanRL")
    parser.add_argument("--cleanrl-python", help="an interpreter that has its packages; gymnasium 0.29 among them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="jobs whose name contains this; others stay on record")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    figures = {}
    for job in (j for j in JOBS if given.only in j):
        sides = [s for s in SIDES[job] if python_of(s, given)]
        found = {side: [] for side in sides}
        for number in range(given.rounds):
            for side in sides if number % 2 == 0 else reversed(sides):
                found[side].append(measure(side, {**JOBS[job], "seed": number}, given))
                print(f"{job}, {side}: {found[side][-1]:.0f} steps a second", file=sys.stderr, flush=True)
        medians = {side: statistics.median(speeds) for side, speeds in found.items()}
        row = {f"{side} steps per cpu second": round(speed) for side, speed in medians.items()}
        row |= {f"times {s}": round(medians["kzoo"] / m, 2) for s, m in medians.items() if s != "kzoo"}
        figures[job] = {"measured": now()[:10], **row, "rounds": given.rounds}
    print(json.dumps(figures, indent=1))
    if given.write:
        before = load()["dqn"] if given.only else {"figures": {}}
        known = {job: {"measured": before["date"]} | row for job, row in before["figures"].items()}
        save("dqn", known | figures)


def python_of(side: str, given) -> str | None:
    """The interpreter of a side, None where it is to be left out."""
    return {"kzoo": sys.executable, "sb3": given.sb3_python, "cleanrl": given.cleanrl_python}[side]


def measure(side: str, settings: dict, given) -> float:
    """Steps per second of processor time."""
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS")
    path = str(ROOT) if side == "kzoo" else given.cleanrl or ""
    env = {**os.environ, **dict.fromkeys(threads, "1"), "PYTHONPATH": path}
    command = [python_of(side, given), str(ROOT / "tools/dqn_worker.py"), side, json.dumps(settings)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{side} failed: {done.stderr.strip().splitlines()[-1]}")
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    return answer["steps"] / answer["processor"]


if __name__ == "__main__":
    main()
