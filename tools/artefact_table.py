"""The table of artefacts: every model in every format and precision, verified or refused with its reason, as Markdown.

    python tools/artefact_table.py --make FOLDER [RECIPE ...] [--dtypes ...] [--formats ...] [--out docs/artefacts.md]
    python tools/artefact_table.py --times FOLDER [RECIPE ...]

The first trains a short run of each recipe (by default one of each model) under each precision policy, exports it in
every format, and writes the table. The second exports a float32 run of each recipe (by default all of them) in the
formats without quantisation, for the table of times, to the same folder. Everything runs as `kzoo train` and `kzoo
export` in processes of their own; what FOLDER holds is not done again, and both tables are made of what it holds. The
exit code is 1 if a cell is neither verified nor refused with a reason.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import short_runs

import kzoo
from kzoo.export import FORMATS
from kzoo.export.report import fault
from kzoo.files import write_json, write_text
from kzoo.machine import environment, now

DTYPES = ["float32", "mixed_bfloat16", "mixed_float16"]
PLAIN = [name for name, kind in FORMATS.items() if kind.precision == "float32"]
# A recipe whose network is small, where a model has several that differ.
PREFERRED = {
    "cnn_classifier": "cnn_classifier/digits",
    "dqn_mlp": "dqn_mlp/cartpole",
    "dqn_nature_cnn": "dqn_nature_cnn/pong",
    "lstm_textgen": "lstm_textgen/pydoc",
    "transformer_textgen": "transformer_textgen/tinyshakespeare-cpu",
    "vgg16_detector": "vgg16_detector/scenes",
}


def main() -> int:
    """Make what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", type=Path, metavar="FOLDER", help="runs and exports for the table of cells")
    parser.add_argument("--times", type=Path, metavar="FOLDER", help="runs and exports for the table of times")
    parser.add_argument("recipes", nargs="*")
    parser.add_argument("--dtypes", default=",".join(DTYPES))
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    folder = given.make or given.times
    if folder is None:
        parser.error("one of --make and --times is needed")
    if given.make:
        for name in given.recipes or [_recipe_of(model) for model in kzoo.list_models()]:
            for dtype in given.dtypes.split(","):
                make(folder, name, dtype, given.formats.split(","), "cells")
    else:
        for name in given.recipes or kzoo.list_recipes():
            make(folder, name, "float32", PLAIN, "times")
    text, sound = document(folder)
    if given.out:
        write_text(given.out, text)
    else:
        print(text)
    return 0 if sound else 1


def _recipe_of(model: str) -> str:
    return PREFERRED.get(model) or kzoo.list_recipes(model)[0]


def make(folder: Path, name: str, dtype: str, formats: list[str], kind: str) -> None:
    """Train and export in the formats that are missing, and note what the command took and said."""
    place = folder / kind / name.replace("/", "--") / dtype
    done = _done(place)
    missing = [f for f in formats if not any(f in d["formats"] for d in done)]
    if not missing:
        return
    place.mkdir(parents=True, exist_ok=True)
    print(f"{name} in {dtype}, for {kind}: {', '.join(missing)}", file=sys.stderr, flush=True)
    run = folder / "runs" / name.replace("/", "--") / dtype
    if not (run / "summary.json").is_file():
        recipe = place / "recipe.yaml"
        shutil.rmtree(run, ignore_errors=True)
        recipe.write_text(short_runs.load(name, dtype, folder).dump(), "utf-8")
        _kzoo("train", str(recipe), "--out", str(run))
    export = place / f"export{len(done)}"
    for old in (export, export.with_name(f"{export.name}.failed")):
        shutil.rmtree(old, ignore_errors=True)
    started = sum(os.times()[:4])
    said = _kzoo("export", str(run), "--out", str(export), "--formats", ",".join(missing), check=False)
    seconds = sum(os.times()[:4]) - started
    found = {"recipe": name, "dtype": dtype, "formats": missing, "seconds": seconds, "said": said[-3000:]}
    write_json(place / f"done{len(done)}.json", found)


def _done(place: Path) -> list[dict]:
    """What was exported of a run, in one command or several."""
    return [json.loads(path.read_text("utf-8")) for path in sorted(place.glob("done*.json"))]


def _kzoo(*arguments: str, check: bool = True) -> str:
    done = subprocess.run([sys.executable, "-m", "kzoo", *arguments], capture_output=True, text=True)
    if check and done.returncode:
        sys.exit(f"kzoo {' '.join(arguments)} failed:\n{done.stderr}")
    return done.stderr


def document(folder: Path) -> tuple[str, bool]:
    """The whole text, and whether every cell is verified or refused."""
    machine, reasons = environment(), {}
    cells, sound = _cells(folder, reasons)
    lines = [
        "# Artefacts",
        "",
        f"Generated by `tools/artefact_table.py` on {now()[:10]}; {machine['processor']}, keras "
        f"{machine['versions']['keras']}, tensorflow {machine['versions']['tensorflow']}. Each model was trained for a "
        "few steps under each precision policy and exported in each format. An artefact is *verified* when a fresh "
        "process of its own runtime answered real inputs in several batch sizes as the run's network does, within the "
        "tolerance of its precision (float32 1e-5, float16 5e-3, int8 0.25 of the largest output), made the same "
        "decisions, and, where it is quantised, lost no more than 2 % of the task's figure on the test part (or what "
        "chance explains). Doors, MB and ms (one input, on a busy machine) are those of the float32 run's artefact; s "
        "are the CPU seconds that it took to write, judge and verify it.",
        "",
        "`h5` and `keras` are opened by Keras without kzoo, but for networks with layers of the zoo's own, which "
        "kzoo opens; the column *opened in* says which.",
        "",
        *cells,
        "",
        *(f"{number}. {reason}" for reason, number in reasons.items()),
        "",
        *_times(folder),
    ]
    return "\n".join(lines), sound


def _cells(folder: Path, reasons: dict[str, int]) -> tuple[list[str], bool]:
    found = {}
    for place in sorted((folder / "cells").glob("*/*")):
        for number, done in enumerate(_done(place)):
            by = found.setdefault(done["recipe"], {}).setdefault(done["dtype"], {})
            by.update(_report(place / f"export{number}", done))
    dtypes = [d for d in DTYPES if any(d in by for by in found.values())]
    rows = [["model", "format", "opened in", "doors", "MB", "ms", "s", *dtypes]]
    rows.append(["---"] * len(rows[0]))
    count, sound = {"verified": 0, "refused": 0}, True
    for recipe, by in found.items():
        for name in FORMATS:
            shown = [_cell(name, by.get(d, {}).get(name), reasons) for d in dtypes]
            if set(shown) == {""}:
                continue
            for text in shown:
                kind = text.partition(" ")[0]
                count[kind] = count.get(kind, 0) + 1
                sound = sound and kind in ("verified", "refused", "")
            first = next(by[d][name] for d in dtypes if by.get(d, {}).get(name))
            rows.append([recipe.partition("/")[0], name, *_sizes(first), *shown])
    total = sum(n for kind, n in count.items() if kind)
    head = f"{total} cells: {count['verified']} verified, {count['refused']} refused with a reason"
    others = {k: n for k, n in count.items() if k not in ("verified", "refused", "")}
    if others:
        head += f", {others}"
    return [f"{head}.", "", *("| " + " | ".join(row) + " |" for row in rows)], sound


def _report(export: Path, done: dict) -> dict:
    """Figures by format of an export that succeeded or failed."""
    for place in (export, export.with_name(f"{export.name}.failed")):
        if (place / "verify.json").is_file():
            return json.loads((place / "verify.json").read_text("utf-8"))["formats"]
    said = next((line for line in reversed(done["said"].splitlines()) if line.strip()), "nothing")
    lost = {"ok": False, "error": None, "failed": said, "signatures": {}, "bytes": 0, "cpu_seconds": {}}
    return {name: {**lost, "opened_in": ""} for name in done["formats"]}


def _cell(name: str, figures: dict | None, reasons: dict[str, int]) -> str:
    if figures is None:
        return ""

    def noted(reason: str) -> str:
        # Where it was on this machine is nobody else's business.
        reason = re.sub(r"/\S+/", "", reason).replace("|", "\\|").replace("\n", " ")
        return f"({reasons.setdefault(reason, len(reasons) + 1)})"

    quantised = FORMATS[name].precision != "float32"
    without = "".join(" " + noted(f"no {door}: {why}") for door, why in figures.get("refused", {}).items())
    if figures["ok"]:
        return f"verified{without}"
    if "failed" in figures:
        return f"FAILED {noted(figures['failed'])}"
    disagrees = not quantised and figures["error"] is None and any(not s["ok"] for s in figures["signatures"].values())
    return f"{'FAILED' if disagrees else 'refused'} {noted(fault(figures))}"


def _sizes(figures: dict) -> list[str]:
    doors = figures["signatures"]
    latency = next((s["latency_ms"] for s in doors.values() if s.get("latency_ms") is not None), None)
    return [
        figures["opened_in"],
        " ".join(doors),
        f"{figures['bytes'] / 1e6:.2f}" if figures["ok"] else "",
        "" if latency is None else f"{latency:.2f}",
        f"{sum(figures['cpu_seconds'].values()):.0f}",
    ]


def _times(folder: Path) -> list[str]:
    rows = []
    for place in sorted((folder / "times").glob("*/float32")):
        if not _done(place):
            continue
        done = _done(place)[0]
        report = _report(place / "export0", done)
        parts = [f"{sum(report[n]['cpu_seconds'].values()):.0f}" if n in report else "" for n in PLAIN]
        rows.append([done["recipe"], *parts, f"{done['seconds']:.0f}", _overhead(report.get("saved_model"))])
    if not rows:
        return []
    head = ["recipe", *PLAIN, "`kzoo export`", "SavedModel by weights"]
    return [
        "## CPU seconds of an export",
        "",
        "Networks of shipped recipes in every format without quantisation: to write and to verify each, and `kzoo "
        "export` as a whole, start of Python and TensorFlow included. On one idle core that is also the time by the "
        "clock. The last column is a SavedModel's size by that of its weights, beside which it holds graphs.",
        "",
        *("| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)),
        "",
    ]


def _overhead(figures: dict | None) -> str:
    """A SavedModel's size as a multiple of its weights'."""
    files = figures["files"] if figures and figures.get("files") else {}
    weights = sum(f["bytes"] for name, f in files.items() if "/variables.data-" in name)
    return f"{figures['bytes'] / weights:.3f}" if weights else ""


if __name__ == "__main__":
    sys.exit(main())
