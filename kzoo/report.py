"""Run to one HTML page that needs nothing else: curves, figures, pictures, recipe."""

import base64
import html
import io
from pathlib import Path

from kzoo.errors import RequestError
from kzoo.files import read_json, write_text
from kzoo.run import Run

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
table { border-collapse: collapse; } td, th { padding: .15rem .8rem .15rem 0; text-align: left; }
td.number { font-variant-numeric: tabular-nums; text-align: right; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; } img { max-width: 100%; }
"""


def report(run: Run | str | Path, *, out: str | Path | None = None) -> Path:
    """Write a run's report.

    Args:
        run: A run or its folder.
        out: The HTML file, or a folder for it; default: the run's folder.

    Returns:
        The file's path.

    Raises:
        RequestError: The run has not finished an epoch yet.
    """
    run = Run(run)
    rows = run.metrics()
    if not rows:
        raise RequestError(f"{run.path} has no finished epoch to report")
    summary = run.summary or {}
    parts = [f"<h1>{html.escape(run.recipe.model)} <small>{html.escape(run.origin.get('recipe', ''))}</small></h1>"]
    parts += [table(title, summary.get(title) or {}) for title in ("training", "validation", "test")]
    parts.append("<h2>curves</h2>" + image(_curves(rows)))
    for folder in sorted((run.path / "evaluation").glob("*")):
        parts += [
            f"<h2>{html.escape(folder.name)}: {html.escape(picture.stem.replace('_', ' '))}</h2>"
            + image(picture.read_bytes())
            for picture in sorted(folder.glob("*.png"))
        ]
    parts.append(f"<h2>recipe</h2><pre>{html.escape((run.path / 'recipe.yaml').read_text('utf-8'))}</pre>")
    machine = read_json(run.path / "environment.json", {})
    parts.append(table("environment", {**machine.pop("versions", {}), **machine}))
    title = html.escape(str(run.path.name))
    page = f"<!doctype html><meta charset='utf-8'><title>{title}</title><style>{STYLE}</style>{''.join(parts)}\n"
    path = Path(out or run.path)
    if path.suffix != ".html":
        path = path / "report.html"
    write_text(path, page)
    return path


def _curves(rows: list[dict]) -> bytes:
    """One panel for each figure, training and validation together."""
    from matplotlib.figure import Figure

    names = [k for k in rows[0] if k not in ("epoch", "seconds") and not k.startswith("val_")]
    figure = Figure((4.2 * len(names), 3.2), dpi=100, layout="constrained")
    epochs = [int(r["epoch"]) + 1 for r in rows]
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if rows[0].get(key):
                axes.plot(epochs, [float(r[key]) for r in rows], label=label)
        axes.set(title=name.replace("_", " "), xlabel="epoch")
        axes.legend(frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def image(png: bytes) -> str:
    """An HTML image that carries its PNG."""
    return f"<img alt='' src='data:image/png;base64,{base64.b64encode(png).decode()}'>"


def table(title: str, values: dict) -> str:
    """A titled HTML table of names and figures; nothing where there are none."""
    if not values:
        return ""
    cells = "".join(
        f"<tr><th>{html.escape(str(k))}</th><td class='number'>"
        f"{f'{v:.4f}' if isinstance(v, float) else html.escape(str(v))}</td></tr>"
        for k, v in values.items()
    )
    return f"<h2>{html.escape(title)}</h2><table>{cells}</table>"
