"""How soon each tuner reaches what random search ends with; and what real searches cost in time and memory.

    python tools/bench_search.py --train     trains what is missing of the table of all combinations
    python tools/bench_search.py --write     lets every tuner search in that table, and records the figures
    python tools/bench_search.py --workers   trials per hour of one worker on one core and of two on two
    python tools/bench_search.py --memory    memory of the trials' processes, from the second to the last

The recipe is cnn_classifier/digits with a smaller network and fewer epochs. Every combination of the space is trained
once, to its end; what a trial that stops early would have shown is the beginning of its curve, because the schedule is
that of the whole training. So a search in the table proposes, learns, prunes and promotes as a real one, and takes
seconds. A search reaches a value when a trial that was not pruned has ended with it or a better one; the value to
reach is the median, over the search seeds, of random search's best at the end of its budget. A search that does not
reach it counts with its whole budget.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from measurements import save

import kzoo
from kzoo import console
from kzoo.files import read_json, write_json
from kzoo.quiet import import_keras
from kzoo.search.engine import Outcome, open_engine
from kzoo.search.space import levels

TABLE = Path(__file__).with_name("bench_search_table.json")
EPOCHS = 27
SPACE = {
    "train.optimizer.learning_rate": {"choices": [1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 1e-1]},
    "train.optimizer.weight_decay": {"choices": [0.0, 0.5]},
    "arguments.dropout": {"choices": [0.0, 0.2, 0.5]},
    "data.batch_size": {"choices": [64, 256]},
}
# Averaged weights say little after the few steps of the first epochs.
SMALL = {"arguments.filters": [8, 16], "arguments.blocks_per_stage": 1, "train.epochs": EPOCHS, "train.ema": None}
TRIALS = 30  # of random search, whose epochs are every tuner's budget
TUNERS = {
    "random": {"tuner": "random"},
    "Bayesian": {"tuner": "bayesian"},
    "Hyperband": {"tuner": "hyperband", "min_epochs": 1, "factor": 3},
    "Optuna TPE": {"engine": "optuna", "tuner": "tpe"},
    "Optuna TPE, median pruning": {"engine": "optuna", "tuner": "tpe", "pruner": "median", "min_epochs": 3},
    "Optuna TPE, hyperband pruning": {"engine": "optuna", "tuner": "tpe", "pruner": "hyperband", "min_epochs": 1},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", action="store_true", help="train what the table lacks")
    parser.add_argument("--minutes", type=float, default=600, help="stop training after so long")
    parser.add_argument("--seeds", type=int, default=20, help="searches of each tuner")
    parser.add_argument("--workers", action="store_true", help="measure two workers beside one, on two cores")
    parser.add_argument("--memory", action="store_true", help="measure the memory of trials")
    parser.add_argument("--trials", type=int, default=50, help="trials of the real searches")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    if given.train:
        train(given.minutes)
        return
    if given.workers:
        name, figures = "search_workers", workers(given.trials)
    elif given.memory:
        name, figures = "search_memory", memory(given.trials)
    else:
        name, figures = "search", compare(given.seeds)
    print(json.dumps(figures, indent=1))
    if given.write:
        save(name, figures)


def parent(**settings) -> kzoo.Recipe:
    search = {"space": SPACE, "objective": "val_loss", **settings}
    return kzoo.load_recipe("cnn_classifier/digits", {**SMALL, "search": search})


def combinations() -> list[dict]:
    found = [{}]
    for key, parameter in parent().search.space.items():
        found = [{**values, key: value} for values in found for value in levels(parameter)]
    return found


def point(values: dict) -> str:
    return json.dumps([values[key] for key in SPACE])


def train(minutes: float) -> None:
    """Train each combination that the table lacks, and keep its figures after each epoch."""
    import_keras()
    console.set_quiet(True)
    digest, until = parent().digest(), time.monotonic() + 60 * minutes
    table = read_json(TABLE, {"digest": digest, "curves": {}})
    if table["digest"] != digest:
        sys.exit(f"{TABLE} is of another recipe: delete it")
    missing = [values for values in combinations() if point(values) not in table["curves"]]
    for number, values in enumerate(missing, 1):
        with tempfile.TemporaryDirectory() as folder:
            rows = kzoo.train(parent().override(values), out=Path(folder) / "run").metrics()
        table["curves"][point(values)] = [float(f"{float(row['val_loss']):.5g}") for row in rows]
        write_json(TABLE, table)
        print(f"{number} of {len(missing)}", file=sys.stderr, flush=True)
        if time.monotonic() > until:
            break


def compare(seeds: int) -> dict:
    """Epochs that each tuner needs to reach random search's final value, over search seeds."""
    table, budget = read_json(TABLE)["curves"], TRIALS * EPOCHS
    traces = {name: [] for name in TUNERS}
    for name, settings in TUNERS.items():
        for seed in range(seeds):
            traces[name].append(simulate(parent(seed=seed, max_trials=10_000, **settings), table, budget))
        print(name, file=sys.stderr, flush=True)
    target = statistics.median(trace[-1][1] for trace in traces["random"])
    ranked = sorted(min(curve) for curve in table.values())
    return {name: row(found, target, budget, ranked) for name, found in traces.items()}


def row(traces: list[list], target: float, budget: int, ranked: list[float]) -> dict:
    """What a tuner's searches came to; a trace is (epochs spent, best so far)."""
    needed = [next((spent for spent, best in trace if best <= target), None) for trace in traces]
    finals = [trace[-1][1] for trace in traces]
    ranks = [sum(value < final for value in ranked) + 1 for final in finals]
    counted = [budget if n is None else n for n in needed]
    return {
        "value_to_reach": round(target, 5),
        "searches_that_reach_it": f"{sum(n is not None for n in needed)} of {len(needed)}",
        "epochs_for_it_(median)": f"{statistics.median(counted):.0f} of {budget}",
        "epochs_for_it_(mean)": round(statistics.fmean(counted)),
        "median_best_at_the_end": round(statistics.median(finals), 5),
        "its_median_rank": f"{statistics.median(ranks):.0f} of {len(ranked)}",
    }


def simulate(recipe: kzoo.Recipe, table: dict[str, list[float]], budget: int) -> list[tuple[int, float]]:
    """Search in the table until the budget of epochs is spent; returns (epochs spent, best so far) after each trial."""
    engine = open_engine(recipe.search, EPOCHS, "val_loss", "min")
    spent, best, reached, trace = 0, float("inf"), {}, []
    while spent < budget and (proposal := engine.ask()):
        curve = table[point(proposal.values)][: proposal.until]
        before, shown, status = reached.get(proposal.parent, 0), 0, "completed"
        while status == "completed" and shown < len(curve):
            shown += 1
            spent += shown > before
            if engine.looks_hopeless(proposal.number, tuple(curve[:shown])):
                status = "pruned"
        reached[proposal.number] = shown
        score = min(curve[:shown])
        engine.tell(proposal.number, Outcome(status, score, shown, curve=tuple(curve[:shown])))
        if status == "completed":
            best = min(best, score)
        if spent <= budget:
            trace.append((spent, best))
    return trace


def workers(trials: int) -> dict:
    """Trials per hour of one worker on one core and of two workers on two, in turn, twice."""
    cores = sorted(psutil.Process().cpu_affinity())[:2]
    if len(cores) < 2:
        sys.exit("two workers need two cores")
    rates = {1: [], 2: []}
    for number in (1, 2, 2, 1):
        with tempfile.TemporaryDirectory() as folder:
            searching = start(Path(folder), trials, number, cores[:number])
            if searching.wait():
                sys.exit((Path(folder) / "log.txt").read_text())
            events = [json.loads(line) for line in (Path(folder) / "s/journal.jsonl").read_text().splitlines()]
        rates[number].append(3600 * trials / events[-1]["clock"])
    found = {f"{n} worker{'s' * (n > 1)}": {"trials_per_hour": round(statistics.fmean(r))} for n, r in rates.items()}
    found["2 workers"]["of_one"] = f"{sum(rates[2]) / sum(rates[1]):.2f} x"
    return found


def memory(trials: int) -> dict:
    """The most memory that each trial's process had, looked at four times a second."""
    peaks: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        searching = start(Path(folder), trials, 1, psutil.Process().cpu_affinity())
        search = psutil.Process(searching.pid)
        own = []
        while searching.poll() is None:
            try:
                # One that has just ended has none left.
                own.append(search.memory_info().rss or own[-1])
                for child in search.children():
                    number = next((Path(a).parent.name for a in child.cmdline() if a.endswith("recipe.yaml")), None)
                    if number:
                        peaks[number] = max(peaks.get(number, 0), child.memory_info().rss)
            except psutil.Error:
                pass  # one that has just ended
            time.sleep(0.25)
        if searching.returncode:
            sys.exit((Path(folder) / "log.txt").read_text())
        with open(Path(folder) / "s/trials.csv") as table:
            batches = {int(row["number"]): row["data.batch_size"] for row in csv.DictReader(table)}
    # What a trial needs depends on its batch; only those of one size can be compared.
    megabytes = {}
    for batch in sorted(set(batches.values()), key=int):
        own_size = [n for n in sorted(batches) if batches[n] == batch]
        for n in (own_size[0], own_size[-1]):
            megabytes[f"trial {n}, batches of {batch}"] = {"peak_megabytes": round(peaks[f"{n:04d}"] / 2**20)}
    search = {"the search's own, early": own[len(own) // 10], "the search's own, at its end": own[-1]}
    return megabytes | {name: {"peak_megabytes": round(size / 2**20)} for name, size in search.items()}


def start(folder: Path, trials: int, number: int, cores: list[int]) -> subprocess.Popen:
    """Start a real search with so many workers, each on a core of its own."""
    recipe = parent(tuner="random", max_trials=trials).override({"train.epochs": 3})
    (folder / "digits.yaml").write_text(recipe.dump(resolved=False), "utf-8")
    command = [sys.executable, "-m", "kzoo", "search", "digits.yaml", "--out", "s", "--workers", str(number), "--quiet"]
    with open(folder / "log.txt", "ab") as log:
        started = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
    psutil.Process(started.pid).cpu_affinity(cores)
    return started


if __name__ == "__main__":
    main()
