"""lstm_textgen against PyTorch's nn.LSTM, Keras's LSTM and the article's way of writing, in turn on the same cores.

    python tools/bench_text.py --torch-python venv-with-torch/bin/python --write

The network is an embedding of 128, two layers of 512, and a softmax over 66 characters, with random weights; a training
step is 64 rows of 100 characters with Adam. Each side is a process of its own, and in each round every job is done
once, so that what else the machine does meets all of them alike. On one thread the smallest processor time of a job
counts, on more the smallest wall time. The matrix products beside them, of the input projection's and of one recurrent
step's size, are the machine's limit.
"""

import argparse
import json
import sys

import text_worker as work
from measurements import save
from workers import Worker, least_seconds

# Of a character: each weight of layers and softmax takes six operations, forward and backward.
WIDTHS = [(work.EMBEDDING, work.UNITS), *[(work.UNITS, work.UNITS)] * (work.LAYERS - 1)]
FLOP = 6 * (sum(4 * units * (inputs + units) for inputs, units in WIDTHS) + work.UNITS * work.VOCABULARY)
PRODUCT = 2 * work.BATCH * work.LENGTH * work.UNITS * 4 * work.UNITS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch-python", help="an interpreter that has PyTorch; without it the zoo's side alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="record the figures for RESULTS.md")
    given = parser.parse_args()
    sides = {"kzoo": Worker(sys.executable, "text_worker.py", "kzoo", given.threads)}
    if given.torch_python:
        sides["torch"] = Worker(given.torch_python, "text_worker.py", "torch", given.threads)
    found = least_seconds(list(sides.values()), given.threads, given.rounds)
    seconds = {f"{side}: {job}": v for side, times in zip(sides, found, strict=True) for job, v in times.items()}
    figures = {name: row(name, value) for name, value in seconds.items()}
    figures |= ratios(seconds, "torch" in sides)
    print(json.dumps(figures, indent=1))
    if given.write:
        save("text", figures)


def row(name: str, seconds: float) -> dict:
    """What a job's time says."""
    kind, *rest = name.partition(": ")[2].split(" ")
    if kind == "train":
        characters = work.BATCH * work.LENGTH
        speed = {
            "characters_per_second": round(characters / seconds),
            "gflops": round(FLOP * characters / seconds / 1e9, 1),
        }
        return {"milliseconds": round(1000 * seconds, 1), **speed}
    if kind == "product":
        # A recurrent step's product is made as often as there are steps, so that both sizes are the same work.
        return {"milliseconds": round(1000 * seconds, 2), "gflops": round(PRODUCT / seconds / 1e9, 1)}
    rows, count = (1, work.WRITTEN_ARTICLE) if rest == ["article"] else (int(rest[0]), work.WRITTEN)
    return {"characters_per_second": round(rows * count / seconds, 1)}


def ratios(seconds: dict[str, float], with_torch: bool) -> dict:
    """Times by those of the peers; below 1 is faster."""
    own = {k.partition(": ")[2]: v for k, v in seconds.items() if k.startswith("kzoo")}
    each = own["write article"] / work.WRITTEN_ARTICLE / (own["write 1"] / work.WRITTEN)
    found = {
        "training by keras float32": {"ratio": round(own["train float32"] / own["train keras float32"], 3)},
        "writing 1: times faster than the article": {"ratio": round(each)},
    }
    for precision in ("float32", "bfloat16") if with_torch else ():
        peer = seconds[f"torch: train {precision}"]
        found[f"training by torch {precision}"] = {"ratio": round(own[f"train {precision}"] / peer, 3)}
    for rows in (1, 16) if with_torch else ():
        best = min(v for k, v in seconds.items() if k.startswith(f"torch: write {rows} "))
        found[f"writing {rows}: times faster than torch"] = {"ratio": round(best / own[f"write {rows}"], 2)}
    return found


if __name__ == "__main__":
    main()
