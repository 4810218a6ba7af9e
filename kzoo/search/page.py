"""A search's folder to one HTML page: best so far, parallel coordinates, a slice for each key, what mattered."""

import html
import io
import json
import math
from pathlib import Path
from typing import Any

from kzoo import sections
from kzoo.errors import RequestError
from kzoo.files import read_json, write_text
from kzoo.report import STYLE, image, table
from kzoo.search.importance import EPOCHS, correlation, importance, position
from kzoo.search.journal import Journal
from kzoo.search.progress import clock, short_key
from kzoo.search.space import active_values, levels

_BELOW = -0.12  # where a line passes the axis of a key that is inactive
_COLOURS = {"completed": "#1f77b4", "pruned": "#999999"}


def write(folder: str | Path, *, out: str | Path | None = None) -> Path:
    """Write a search's page, also while it works.

    Args:
        folder: The search's folder.
        out: The HTML file, or a folder for it; default: the search's folder.

    Returns:
        The file's path.

    Raises:
        RequestError: The folder holds no search, or no trial has a score yet.
    """
    folder = Path(folder)
    state = read_json(folder / "search.json")
    if state is None:
        raise RequestError(f"{folder} is no search's folder: it holds no search.json")
    space = sections.Search.model_validate_json(json.dumps(state["search"])).space
    trials = _trials(folder)
    # What an inactive key has otherwise lies on no axis, and may be no number.
    scored = [{**t, "values": active_values(space, t["values"])} for t in trials if t.get("score") is not None]
    if not scored:
        raise RequestError(f"{folder} has no trial with a score to report")
    sign = 1 if state["direction"] == "max" else -1
    name = html.escape(state["parent"] or "a recipe made in Python")
    parts = [f"<h1>search <small>{name}</small></h1>", _summary(state, trials, sign), _winner(state)]
    parts += [_retrained(state.get("retrained"))]
    parts.append("<h2>best so far</h2>" + image(_history(scored, state["objective"], sign)))
    varied = [key for key in space if not space[key].is_fixed]
    if len(scored) > 1:
        lines = _parallel(space, varied, scored, state["objective"], sign)
        parts.append("<h2>parallel coordinates</h2>" + image(lines))
        parts.append("<h2>slices</h2>" + image(_slices(space, varied, scored, state["objective"])))
    parts += [_mattered(space, varied, scored), _all(space, trials, state["objective"], sign)]
    page = f"<!doctype html><meta charset='utf-8'><title>search {name}</title><style>{STYLE}</style>{''.join(parts)}\n"
    path = Path(out or folder)
    if path.suffix != ".html":
        path = path / "search.html"
    write_text(path, page)
    return path


def _trials(folder: Path) -> list[dict]:
    """What the journal knows of each trial."""
    found: dict[int, dict] = {}
    for event in Journal(folder).events:
        found.setdefault(event["trial"], {"number": event["trial"]}).update(event)
    return list(found.values())


def _summary(state: dict, trials: list[dict], sign: int) -> str:
    ended = [t for t in trials if "status" in t]
    counts = {s: sum(t["status"] == s for t in ended) for s in ("completed", "pruned", "failed")}
    settings = sections.Search.model_validate_json(json.dumps(state["search"]))
    goal = f"{'highest' if sign > 0 else 'lowest'} {state['objective']}"
    facts = {"goal": goal, "tuner": f"{settings.tuner} ({settings.engine})", "seed": settings.seed, **counts}
    return table("search", {**facts, "time": clock(max((t.get("clock", 0) for t in trials), default=0))})


def _winner(state: dict) -> str:
    winner = state.get("winner")
    if not winner:
        return ""
    return table(f"winner: trial {winner['trial']}", {state["objective"]: winner["score"], **winner["values"]})


def _retrained(found: dict | None) -> str:
    """Winner and parent beside each other, trained from scratch."""
    if not found:
        return ""
    rows = []
    for who in ("winner", "parent"):
        result = found[who]
        spread = "" if result["std"] is None else f" &plusmn; {result['std']:.4f}"
        seeds = ", ".join(f"{v:.4f}" for v in result["values"])
        rows.append(f"<tr><th>{who}</th><td class='number'>{result['mean']:.4f}{spread}</td><td>{seeds}</td></tr>")
    title = f"trained from scratch: {html.escape(found['winner']['metric'])}"
    return f"<h2>{title}</h2><table><tr><th></th><th>mean</th><th>each seed</th></tr>{''.join(rows)}</table>"


def _history(trials: list[dict], objective: str, sign: int) -> bytes:
    """Each trial's score and the best so far, over the trials and over the epochs that they took."""
    figure, axes = _figure(1, 2, (9, 3.2))
    spent, epochs = 0, []
    for trial in trials:
        spent += trial["epochs"]
        epochs.append(spent)
    numbers = [t["number"] for t in trials]
    for place, x, label in ((axes[0], numbers, "trial"), (axes[1], epochs, "epochs of all trials")):
        best, line = -math.inf, []
        for trial in trials:
            if trial["status"] == "completed":
                best = max(best, sign * trial["score"])
            line.append(sign * best if math.isfinite(best) else math.nan)
        for status, colour in _COLOURS.items():
            own = [(a, t["score"]) for a, t in zip(x, trials, strict=True) if t["status"] == status]
            if own:
                place.scatter(*zip(*own, strict=True), s=14, color=colour, label=status)
        place.step(x, line, where="post", color="#d62728", label="best so far")
        place.set(xlabel=label, ylabel=objective)
    axes[0].legend(frameon=False)
    return _png(figure)


def _parallel(space, keys: list[str], trials: list[dict], objective: str, sign: int) -> bytes:
    """One line for each trial through its values, coloured by its score; inactive keys are passed below."""
    from matplotlib import colormaps

    figure, (axes,) = _figure(1, 1, (1.9 * (len(keys) + 1) + 1, 3.8))
    columns = [[position(space, key, t["values"]) for t in trials] for key in keys]
    active = [[key in t["values"] for t in trials] for key in keys]
    scores = [t["score"] for t in trials]
    scaled = [_scaled(c, a) for c, a in zip(columns, active, strict=True)] + [_scaled(scores, [True] * len(scores))]
    ranks = sorted(range(len(trials)), key=lambda i: sign * scores[i])
    for rank, index in enumerate(ranks):
        share = rank / max(1, len(ranks) - 1)
        heights = [column[index] for column in scaled]
        colour = colormaps["viridis"](share)
        axes.plot(range(len(scaled)), heights, color=colour, alpha=0.25 + 0.75 * share, lw=1 + share)
    for place, key in enumerate(keys):
        below = [] if all(active[place]) else [(_BELOW, "inactive")]
        for height, text in _ticks(space[key], columns[place], active[place]) + below:
            axes.annotate(text, (place, height), fontsize=7, xytext=(3, 0), textcoords="offset points", va="center")
        axes.axvline(place, color="#cccccc", lw=0.8, zorder=0)
    for height, value in ((0.0, min(scores)), (1.0, max(scores))):
        axes.annotate(f"{value:.4g}", (len(keys), height), fontsize=7, xytext=(3, 0), textcoords="offset points")
    axes.axvline(len(keys), color="#cccccc", lw=0.8, zorder=0)
    axes.set_xticks(range(len(keys) + 1), [*(short_key(k, keys) for k in keys), objective], fontsize=8)
    axes.set(yticks=[], xlim=(-0.1, len(keys) + 0.5))
    for side in axes.spines.values():
        side.set_visible(False)
    return _png(figure)


def _scaled(values: list[float], active: list[bool]) -> list[float]:
    known = [v for v, a in zip(values, active, strict=True) if a]
    low, high = min(known, default=0.0), max(known, default=1.0)
    width = (high - low) or 1.0
    return [(v - low) / width if a else _BELOW for v, a in zip(values, active, strict=True)]


def _ticks(parameter, column: list[float], active: list[bool]) -> list[tuple[float, str]]:
    """Heights and labels on an axis: each choice, or the ends of what was tried."""
    known = [v for v, a in zip(column, active, strict=True) if a]
    if not known:
        return []
    low, high = min(known), max(known)
    width = (high - low) or 1.0
    if parameter.choices is not None:
        marks = [(i, _short(v)) for i, v in enumerate(levels(parameter)) if low <= i <= high]
    else:
        marks = [(v, f"{10**v if parameter.log else v:.3g}") for v in dict.fromkeys((low, high))]
    return [((at - low) / width, text) for at, text in marks]


def _slices(space, keys: list[str], trials: list[dict], objective: str) -> bytes:
    """The score over each key's values, later trials darker."""
    columns = min(4, len(keys))
    rows = -(-len(keys) // columns)
    figure, axes = _figure(rows, columns, (3.1 * columns, 2.7 * rows))
    last = max(t["number"] for t in trials)
    for place, key in zip(axes, keys, strict=False):
        own = [t for t in trials if key in t["values"]]
        shades = [0.25 + 0.75 * t["number"] / last for t in own]
        parameter = space[key]
        x = [t["values"][key] if parameter.min is not None else position(space, key, t["values"]) for t in own]
        look = {"c": shades, "cmap": "Blues", "vmin": 0, "vmax": 1, "s": 16, "edgecolors": "#555555", "linewidths": 0.3}
        place.scatter(x, [t["score"] for t in own], **look)
        place.set(xlabel=short_key(key, keys), ylabel=objective, xscale="log" if parameter.log else "linear")
        if parameter.choices is not None:
            known = levels(parameter)
            place.set_xticks(range(len(known)), [_short(v) for v in known], fontsize=7)
    for place in axes[len(keys) :]:
        place.set_visible(False)
    return _png(figure)


def _mattered(space, keys: list[str], trials: list[dict]) -> str:
    """A table of importances and rank correlations."""
    found = importance(space, trials)
    shares, fit = found or ({}, None)
    names = sorted([*keys, *([EPOCHS] if EPOCHS in shares else [])], key=lambda k: -shares.get(k, 0.0))
    rows = []
    for key in names:
        rank = None if key == EPOCHS else correlation(space, key, trials)
        cells = [f"{shares[key]:.0%}" if key in shares else "", "" if rank is None else f"{rank:+.2f}"]
        figures = "".join(f"<td class='number'>{c}</td>" for c in cells)
        rows.append(f"<tr><th>{html.escape(key)}</th>{figures}</tr>")
    head = "<tr><th></th><th>importance</th><th>rank correlation</th></tr>"
    note = (
        "Importance needs at least ten scored trials."
        if fit is None
        else "Importance: what exchanging a key's values costs a random forest of the scores"
        f" (out-of-bag R&sup2; {fit:.2f}; below about 0.3 it says little)."
    )
    ranked = " Rank correlation: Spearman's, of the values with the score, where the values have an order."
    return f"<h2>what mattered</h2><table>{head}{''.join(rows)}</table><p>{note}{ranked}</p>"


def _all(space, trials: list[dict], objective: str, sign: int) -> str:
    """Every trial, the best first."""
    keys = list(space)
    order = sorted(trials, key=lambda t: (t.get("score") is None, -sign * (t.get("score") or 0.0), t["number"]))
    head = "".join(
        f"<th>{html.escape(name)}</th>"
        for name in ("trial", "state", objective, "epochs", "time", *(short_key(k, keys) for k in keys), "")
    )
    rows = []
    for trial in order:
        score = trial.get("score")
        cells = [trial["number"], trial.get("status", "running"), "" if score is None else f"{score:.4f}"]
        cells += [trial.get("epochs", ""), clock(trial["seconds"]) if "seconds" in trial else ""]
        cells += [_short(trial["values"][k]) if k in trial["values"] else "" for k in keys]
        cells.append(trial.get("reason", ""))
        rows.append("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in cells) + "</tr>")
    return f"<h2>trials</h2><table><tr>{head}</tr>{''.join(rows)}</table>"


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value)


def _figure(rows: int, columns: int, size: tuple[float, float]):
    from matplotlib.figure import Figure

    figure = Figure(size, dpi=100, layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False).flat)


def _png(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
