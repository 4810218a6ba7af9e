"""Does a search of twenty minutes lead from poor settings to what the zoo's own recipe reaches?

    python tools/poor_start.py cartpole --out /tmp/poor --write

Each case is one of the zoo's recipes, spoilt on purpose with what tutorials and articles set, and a space that says
nothing of the good values but their order of magnitude. The search has twenty minutes; then its winner and the spoilt
recipe are trained from scratch over three seeds. Beside them stands what the zoo's recipe has on record, which was
trained for as long as it takes. Run it on a machine that does nothing else: the budget is one of time.
"""

import argparse
import json
import statistics
from pathlib import Path

from measurements import load, save
from reproduce import figure

import kzoo
from kzoo.files import read_json
from kzoo.run import Run

CASES = {
    # The network and the settings of the usual first tutorial: two convolutions, plain gradient descent.
    "mnist": (
        "cnn_classifier/mnist",
        {
            "arguments": {"filters": [16, 32], "blocks_per_stage": 1, "head": "flatten"},
            "data.augment": {},
            "train.epochs": 12,
            "train.optimizer": {"name": "sgd", "learning_rate": 1e-2},
            "train.schedule": {"name": "constant"},
            "train.label_smoothing": 0.0,
            "train.ema": None,
        },
        {
            "train.optimizer.name": {"choices": ["sgd", "adamw"]},
            "train.optimizer.learning_rate": {"min": 3e-4, "max": 3e-1, "log": True},
            "train.schedule.name": {"choices": ["constant", "cosine", "one_cycle"]},
            "arguments.filters": {"choices": [[16, 32], [32, 64], [24, 48, 96]]},
            "arguments.blocks_per_stage": {"choices": [1, 2]},
            "arguments.head_dropout": {"choices": [0.0, 0.2, 0.4]},
            "data.augment.translate": {"choices": [0, 1, 2]},
            "data.augment.rotate": {"choices": [0, 5, 10]},
        },
        # Short trainings, judged by the loss on more images: the accuracy of 1,200 says nothing at this height.
        {"tuner": "bayesian", "objective": "val_loss", "during": {"train.epochs": 4, "data.validation": 0.1}},
    ),
    # One-step updates at a low, constant rate, and a target network that is seldom brought up to date.
    "cartpole": (
        "dqn_mlp/cartpole",
        {
            "train.n_step": 1,
            "train.target_every": 5000,
            "train.optimizer.learning_rate": 5e-5,
            "train.schedule": {"name": "constant"},
            "train.exploration": {"name": "linear", "final": 0.1, "share": 1.0},
        },
        {
            "train.optimizer.learning_rate": {"min": 1e-5, "max": 1e-2, "log": True},
            "train.schedule.name": {"choices": ["constant", "cosine"]},
            "train.n_step": {"choices": [1, 3, 5]},
            "train.target_every": {"choices": [50, 200, 1000, 5000]},
            "train.exploration.share": {"choices": [0.1, 0.3, 1.0]},
        },
        {"tuner": "bayesian", "pruner": "median", "min_epochs": 6},
    ),
    # A small network that learns slowly.
    "pydoc": (
        "lstm_textgen/pydoc",
        {
            "arguments": {"num_layers": 1, "units": 128, "embedding": 32},
            "train.epochs": 8,
            "train.optimizer": {"name": "adam", "learning_rate": 1e-4},
            "train.schedule": {"name": "constant"},
        },
        {
            "train.optimizer.learning_rate": {"min": 1e-4, "max": 3e-2, "log": True},
            "train.schedule.name": {"choices": ["constant", "cosine"]},
            "arguments.units": {"choices": [128, 256, 512]},
            "arguments.embedding": {"choices": [32, 64]},
            "arguments.dropout": {"choices": [0.0, 0.1, 0.3]},
        },
        {"tuner": "hyperband", "min_epochs": 1, "factor": 3},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--out", type=Path, default=Path("runs/poor_start"), help="a folder for each case")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=3, help="seeds of the re-training")
    parser.add_argument("--dry-run", action="store_true", help="check the case, train nothing")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    recipe = poor(given.case, given.minutes)
    if given.dry_run:
        from kzoo.search import dry_run

        print(json.dumps(dry_run(recipe), indent=1))
        return
    folder = given.out / given.case
    kzoo.search(recipe, out=folder, workers=given.workers, retrain=given.seeds)
    figures = {CASES[given.case][0]: row(folder, recipe)}
    print(json.dumps(figures, indent=1))
    if given.write:
        before = load().get("poor_start", {"figures": {}})["figures"]
        save("poor_start", {**before, **figures})


def poor(case: str, minutes: float) -> kzoo.Recipe:
    """The spoilt recipe with its space and budget."""
    name, spoilt, space, settings = CASES[case]
    search = {"space": space, "max_hours": minutes / 60, "max_trials": None, **settings}
    return kzoo.load_recipe(name, {**spoilt, "search": search})


def row(folder: Path, recipe: kzoo.Recipe) -> dict:
    """What came out, in the measure in which the zoo's recipe has its record, beside that."""
    state, known = read_json(folder / "search.json"), recipe.results[0]
    part, _, metric = known["metric"].partition(" ")
    [written] = folder.glob("*/*-tuned.yaml")
    return {
        "metric": known["metric"],
        "spoilt": shown([figure(Run(p), part, metric) for p in folder.glob("retrained/parent-*/run")]),
        "found": shown([figure(Run(p), part, metric) for p in folder.glob("retrained/winner-*/run")]),
        "zoo's_own": shown(known["values"]),
        "trials": state["trials"],
        "minutes": round(60 * kzoo.load_recipe(written).tuned["hours"], 1),  # of the search alone
        "values": json.dumps(state["winner"]["values"]),
        "measured": state["retrained"]["winner"]["date"],  # the table keeps the rows of other cases
    }


def shown(values: list[float]) -> str:
    spread = f" +- {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


if __name__ == "__main__":
    main()
