"""Write RESULTS.md from what was measured: the recipes' recorded results and the benchmarks' records.

python tools/results.py          writes it
python tools/results.py --check  fails where it is not what would be written
"""

import sys
from pathlib import Path

from measurements import load, shown

import kzoo
from kzoo.files import write_text

TARGET = Path(__file__).resolve().parents[1] / "RESULTS.md"
NOTES = {
    "tfds:cifar10": "CIFAR-10 was read from a copy recompressed as JPEG, on which accuracy is a little lower.",
}
TITLES = {
    "detector": "Detector from JPEG to boxes beside torchvision",
    "airbench": "CIFAR-10 to the end, beside airbench's own program (a JPEG copy of the images)",
    "cifar": "Training on CIFAR-10 beside airbench's own program",
    "dqn": "Learning to act: speed beside stable-baselines3 and CleanRL",
    "text": "Text: training and writing beside PyTorch",
    "dqn_learning": "Learning to act, beside the peers",
    "poor_start": "Searches of twenty minutes from poor settings",
    "search": "Searches by epochs, in a table of all combinations",
    "search_memory": "Memory of a search's trials",
    "search_workers": "A search with one worker and with two",
    "serve_soak": "Serve, good and hostile requests",
    "per_class": "Detectors by class",
    "learning_curve": "Validation return by steps",
    "transfer": "Detector from a classifier's weights, beside from scratch",
}


def main() -> None:
    text = "\n".join(["# Results", "", "Written by `python tools/results.py`; not edited by hand.", "", *body()]) + "\n"
    if "--check" in sys.argv:
        sys.exit(0 if TARGET.read_text("utf-8") == text else "RESULTS.md is stale: run python tools/results.py")
    write_text(TARGET, text)


def body() -> list[str]:
    return [*recipes(), *(line for name, record in load().items() for line in benchmark(name, record))]


def recipes() -> list[str]:
    """One row for each recorded result, and the notes that belong to its data."""
    lines = [
        "## Recipes",
        "",
        "| recipe | metric | mean | std | each seed | minutes a seed | hardware | date |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    notes, commands = [], []
    for name in kzoo.list_recipes():
        recipe = kzoo.load_recipe(name)
        for r in recipe.results:
            mean, *each = (shown(r["metric"], v) for v in (r["mean"], *r["values"]))
            spread = "" if r["std"] is None else shown(r["metric"], r["std"])
            each = ", ".join(each)
            cells = [f"`{name}`", r["metric"], mean, spread, each, r["minutes"], r["hardware"], r["date"]]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
            source = getattr(recipe.data, "source", None)
            notes += [NOTES[source]] if source in NOTES else []
            commands.append(f"    {r['command']}")
    return [
        *lines,
        "",
        *dict.fromkeys(notes),
        "",
        "Minutes are wall time of the whole process; where other work shared the cores, they are an upper bound.",
        "",
        *dict.fromkeys(commands),
        "",
    ]


def benchmark(name: str, record: dict) -> list[str]:
    """A table of a benchmark's figures, whatever its columns are."""
    rows = {k: flat(v) for k, v in record["figures"].items()}
    columns = list(dict.fromkeys(c for row in rows.values() for c in row))
    lines = [
        f"## {TITLES.get(name, name.capitalize())}",
        "",
        f"`{record['command']}`, {record['hardware']}, {record['date']}",
        "",
    ]
    lines += ["| | " + " | ".join(c.replace("_", " ") for c in columns) + " |", "| --- " * (len(columns) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(str(row.get(c, "")) for c in columns) + " |" for name, row in rows.items()]
    return [*lines, ""]


def flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key} ") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


if __name__ == "__main__":
    main()
