"""What a detector's run reaches on each class, by the part that `reproduce.py` judged it on.

    python tools/per_class.py vgg16_detector/kitti-folder --write

Precision, recall and F1 at the score that the validation part chose, AP at an IoU of 0.5, and where the data come in
KITTI's form its protocol's AP at 40 recalls. Run `reproduce.py` first; other recipes' rows stay on record.
"""

import argparse
import json
from pathlib import Path

from measurements import load, save

from kzoo.files import read_json
from kzoo.run import Run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", help="a shipped recipe, such as vgg16_detector/kitti-folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="where reproduce.py's runs are")
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    run = Run(given.out / given.recipe / f"s{given.seed}")
    figures = {f"{given.recipe}, {name}": row for name, row in rows(run).items()}
    print(json.dumps(figures, indent=1))
    if given.write:
        save("per_class", load().get("per_class", {"figures": {}})["figures"] | figures)


def rows(run: Run) -> dict[str, dict]:
    """Figures of each class."""
    part = "test" if run.summary["test"] else "validation"
    figures = read_json(run.path / "evaluation" / part / "figures.json")
    found = {}
    for name, values in figures["per_class"].items():
        shown = {"seed": run.summary["seed"], "measured": run.summary["finished"][:10], "part": part}
        shown |= {"objects": values["support"]}
        shown |= {k: round(values[k], 3) for k in ("precision", "recall", "f1", "map50")}
        levels = figures.get("kitti", {}).get(name, {})
        found[name] = shown | {f"KITTI {level}": round(v["ap40"], 3) for level, v in levels.items()}
    return found


if __name__ == "__main__":
    main()
