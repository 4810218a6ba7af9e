"""The command line: one verb for each thing that the zoo does, each a thin door to the Python function of that name.

Facts go to standard output, everything else to standard error. Exit codes: 0 done, 1 the work failed, 2 the request was
wrong.
"""

import json
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from kzoo import _version, configs, console, printing, registry
from kzoo.errors import KzooError, RequestError

app = typer.Typer(
    name="kzoo",
    help="A Keras 3 / TensorFlow model zoo: a name builds, a recipe trains, every exported artefact is verified.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False
_INTERRUPTED = 130  # what typer makes of a Ctrl-C


def _set_debug(value: bool) -> bool:
    global _debug
    _debug = _debug or value
    return value


def _set_quiet(value: bool) -> bool:
    console.set_quiet(value)
    return value


def _show_version(value: bool) -> None:
    if value:
        print(_version.__version__)
        raise typer.Exit()


Json = Annotated[bool, typer.Option("--json", help="Print facts as JSON.")]
Quiet = Annotated[bool, typer.Option("--quiet", callback=_set_quiet, help="Say nothing but results and errors.")]
Debug = Annotated[bool, typer.Option("--debug", callback=_set_debug, help="Show a traceback for an error.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where the results go.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a dotted recipe key.")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
_FORMATS = (
    "Comma-separated: h5, keras, weights_h5, saved_model, onnx, litert, openvino; quantised keras_int8, "
    "onnx_int8, onnx_float16, litert_dynamic, litert_int8, litert_float16."
)
RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe such as cnn_classifier/digits, or a file.")]


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True)] = False,
    debug: Debug = False,
) -> None:
    """A Keras 3 / TensorFlow model zoo: a name builds, a recipe trains, every exported artefact is verified."""


@app.command("list")
def list_(
    pattern: Annotated[str, typer.Argument(help="Wildcard that names must match.")] = "*",
    task: Annotated[str | None, typer.Option(help="Only models of this task.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """List the models of the zoo and their recipes."""
    models = [registry.info(name) for name in registry.list_models(pattern, task=task)]
    if not models:
        raise RequestError(f"no model matches {pattern!r}" + (f" with the task {task!r}" if task else ""))
    if as_json:
        printing.as_json([{"name": m.name, "task": m.task, "summary": m.summary, "recipes": m.recipes} for m in models])
        return
    printing.table(
        ["model", "task", "parameters", "recipes"],
        [
            [m.name, m.task, printing.number(m.parameter_count), "  ".join(r.partition("/")[2] for r in m.recipes)]
            for m in models
        ],
    )


@app.command()
def info(
    model: Annotated[str, typer.Argument(help="A model's name.")],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Describe a model: its arguments, parameter count, recipes and measured results."""
    from kzoo import pretrained

    known = registry.info(model)
    trained = [pretrained.find(*name.split("/")) for name in pretrained.list_weights(model)]
    parameters = [
        {"name": p.name, "type": p.type, **({} if p.default is registry.REQUIRED else {"default": p.default})}
        for p in known.parameters
    ]
    if as_json:
        keys = ("name", "task", "module", "summary", "parameter_count", "recipes", "results")
        weights = [{k: getattr(w, k) for k in ("tag", "size", "url", "metrics", "data", "licence")} for w in trained]
        printing.as_json({k: getattr(known, k) for k in keys} | {"parameters": parameters, "weights": weights})
        return
    count = printing.number(known.parameter_count)
    print(f"{known.name}  ({known.task}, {count} parameters by default, {known.module})\n")
    print(f"{known.summary}\n")
    printing.table(
        ["argument", "type", "default"], [[p["name"], p["type"], p.get("default", "required")] for p in parameters]
    )
    for recipe in known.recipes:
        print(f"recipe {recipe}")
        for r in known.results:
            if r["recipe"] == recipe:
                spread = "" if r["std"] is None else f" +- {r['std']}"
                print(f"  {r['metric']} {r['mean']}{spread} over seeds {r['seeds']}, {r['hardware']}, {r['date']}")
    for w in trained:
        # The first figure is the task's headline.
        told = [f"test {name} {printing.figure(value)}" for name, value in list(w.metrics.items())[:1]]
        print(f"weights {w.tag}  " + ", ".join([f"{w.size / 1e6:.1f} MB", *told, w.data]))


@app.command()
def train(
    recipe: Annotated[str | None, typer.Argument(metavar="[RECIPE]", help="A recipe's name or file.")] = None,
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with this interrupted run.")
    ] = None,
    sets: Sets = None,
    out: Out = None,
    until: Annotated[int | None, typer.Option(min=1, help="Stop after this many epochs; go on with --resume.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train a recipe into a run folder, or go on with an interrupted run."""
    from kzoo import recipe as recipes

    if (recipe is None) == (resume is None):
        raise RequestError("train takes either a RECIPE or --resume RUN")
    if resume is not None and (sets or out):
        raise RequestError("--resume goes on with a run as it was started; it takes no --set and no --out")
    from kzoo.run import Run
    from kzoo.train import resume as go_on
    from kzoo.train import train as start

    if resume is not None:
        run = go_on(Run(resume), until=until)
    else:
        run = start(recipes.load(recipe, sets or ()), out=out, until=until)
    summary = run.summary
    if as_json:
        printing.as_json({"run": str(run.path), **(summary or {"finished": None})})
        return
    print(f"run  {run.path}")
    for part in ("training", "validation", "test"):
        figures = (summary or {}).get(part) or {}
        if figures:
            print(f"{part}  " + "  ".join(f"{k} {printing.figure(v)}" for k, v in figures.items()))


@app.command()
def evaluate(
    run: RunFolder,
    split: Annotated[str | None, typer.Option(help="test (the default), validation or train.")] = None,
    text: Annotated[str | None, typer.Option(help="Judge this text file instead, with a language model.")] = None,
    html: Annotated[Path | None, typer.Option(help="With --text: a page that colours its characters by cost.")] = None,
    episodes: Annotated[int | None, typer.Option(min=1, help="Episodes to play, for control.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Judge a run on a part of its data; pictures go into the run's folder."""
    if text is not None or html is not None:
        _score(run, split, text, html, as_json)
        return
    from kzoo.evaluate import evaluate as judge

    split = split or "test"
    figures = judge(run, split=split, **_given(episodes=episodes))
    if as_json:
        printing.as_json(figures)
        return
    printing.table(
        ["figure", split], [[k, printing.figure(v)] for k, v in figures.items() if isinstance(v, int | float)]
    )
    rows = figures.get("per_class", {})
    if rows:
        columns = list(next(iter(rows.values())))
        printing.table(
            ["class", *columns], [[name, *(printing.figure(v) for v in row.values())] for name, row in rows.items()]
        )
    print(f"written to {run / 'evaluation' / split}")


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(metavar="RUN|ARTEFACT", help="A run's folder, or an exported artefact.")],
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders or globs.")],
    top: Annotated[int | None, typer.Option(min=1, help="How many labels for each image; 3 by default.")] = None,
    score: Annotated[float | None, typer.Option(help="Least probability of a detection; 0.5 by default.")] = None,
    overlap: Annotated[float | None, typer.Option(help="IoU above which the weaker of two detections goes.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Most detections of a picture.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Write each picture with its detections here.")
    ] = None,
    formats: Annotated[
        str | None, typer.Option(help="What --out gets: pictures, coco, kitti; comma-separated. Default: pictures.")
    ] = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer inputs with a trained run or an exported artefact."""
    from kzoo.evaluate import predict as answer
    from kzoo.evaluate import tabulate

    if as_json and as_csv:
        raise RequestError("predict prints either --json or --csv")
    answers = answer(
        run, inputs, **_given(top=top, score=score, overlap=overlap, limit=limit, out=out, formats=formats)
    )
    if as_json:
        printing.as_json(answers)
        return
    header, *rows = tabulate(run, answers)
    if as_csv:
        import csv

        csv.writer(sys.stdout, lineterminator="\n").writerows([header, *rows])
    else:
        printing.table(header, rows)


@app.command()
def explain(
    run: RunFolder,
    inputs: Annotated[list[str], typer.Argument(metavar="INPUT...", help="Files, folders or globs.")],
    label: Annotated[str | None, typer.Option(help="The label to explain; the most probable by default.")] = None,
    layer: Annotated[str | None, typer.Option(help="The layer to look at; the last with maps by default.")] = None,
    out: Out = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw where a classifier looks for its answer (Grad-CAM), a PNG for each input."""
    from kzoo.evaluate import explain as draw

    answers = draw(run, inputs, out=out, label=label, layer=layer)
    if as_json:
        printing.as_json(answers)
    else:
        rows = [[a["input"], a["label"], f"{a['probability']:.4f}", a["picture"]] for a in answers]
        printing.table(["input", "label", "probability", "picture"], rows)


@app.command()
def generate(
    run: RunFolder,
    prompt: Annotated[str, typer.Option(help="What to continue; FILE:PATH reads it from a file.")] = "",
    length: Annotated[int, typer.Option(help="Tokens to write.")] = 500,
    temperature: Annotated[float, typer.Option(help="0 always takes the most probable token.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Choose among this many tokens; 0 for all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Choose among the most probable that have this share together.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Least share of the most probable token's probability.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 makes repeated tokens less likely.")] = 1.0,
    seed: Annotated[int | None, typer.Option(help="Fixes the texts; drawn and said by default.")] = None,
    num: Annotated[int, typer.Option(help="How many texts.")] = 1,
    unknown: Annotated[str, typer.Option(help="Unknown characters of the prompt: error, skip or keep.")] = "error",
    stream: Annotated[bool, typer.Option("--stream", help="Print the text as it is written.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Write text with a trained language model."""
    from kzoo.generate import generate as write
    from kzoo.generate import stream as write_on

    if stream and (as_json or num != 1):
        raise RequestError("--stream prints one text as it is written; it takes neither --num nor --json")
    choice = {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    how = {"length": length, "seed": seed, "unknown": unknown, "repetition_penalty": repetition_penalty, **choice}
    prompt = _prompt(prompt)
    if stream:
        pieces = write_on(run, prompt, **how)
        print(prompt, end="", flush=True)
        for piece in pieces:
            print(piece, end="", flush=True)
        print()
        return
    texts = write(run, prompt, num=num, **how)
    if as_json:
        printing.as_json(texts)
    else:
        print("\n---\n".join(texts))


@app.command()
def play(
    run: RunFolder,
    episodes: Annotated[int, typer.Option(min=1, help="Whole episodes to play.")] = 5,
    video: Annotated[Path | None, typer.Option(metavar="FILE", help="Record them as .gif or .mp4.")] = None,
    render: Annotated[str | None, typer.Option(help="A render mode of the environment, such as human.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the episodes.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Let a control run's policy play in its environment."""
    from kzoo.play import play as watch

    played = watch(run, episodes=episodes, video=video, render=render, seed=seed)
    if as_json:
        printing.as_json(played)
        return
    printing.table(list(played[0]), [[printing.figure(v) for v in p.values()] for p in played])
    if video is not None:
        print(f"written to {video}")


@app.command()
def inspect(
    recipe: RecipeName,
    sets: Sets = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="The PNG; inspect.png by default.")] = None,
    pictures: Annotated[int, typer.Option(min=1, help="How many examples.")] = 12,
    plain: Annotated[bool, typer.Option("--plain", help="Show them without augmentation.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Draw training examples of a recipe as the network sees them, with their labels."""
    from kzoo import recipe as recipes
    from kzoo.survey import inspect as look

    found = look(recipes.load(recipe, sets or ()), out=out, pictures=pictures, plain=plain)
    if as_json:
        printing.as_json(found)
        return
    parts = list(found["classes"])
    names = list(next(iter(found["classes"].values())))
    printing.table(["objects", *parts], [[n, *(found["classes"][p][n] for p in parts)] for n in names])
    print(f"written to {found['sheet']}")


@app.command()
def anchors(
    recipe: RecipeName,
    sets: Sets = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "train",
    shapes: Annotated[int, typer.Option(min=0, help="Fit so many box shapes to the objects.")] = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Report how many objects of a recipe's data its default boxes can match, by class and size."""
    from kzoo import recipe as recipes
    from kzoo.survey import anchors as survey

    found = survey(recipes.load(recipe, sets or ()), split=split, shapes=shapes)
    if as_json:
        printing.as_json(found)
        return
    width, height = found["input"][1], found["input"][0]
    print(f"{found['boxes']:,} default boxes on {height}x{width}; a match takes an IoU of {found['overlap']:g}")
    header = [k.replace("matched_50", "IoU >= 0.5").replace("_", " ") for k in found["rows"][0]]
    printing.table(header, [[printing.short(v) for v in row.values()] for row in found["rows"]])
    if shapes:
        print(f"\n{len(found['shapes'])} shapes by k-means, mean IoU {found['shapes_iou']:.3f}")
        printing.table(list(found["shapes"][0]), [[printing.short(v) for v in row.values()] for row in found["shapes"]])


@app.command()
def search(
    recipe: RecipeName,
    sets: Sets = None,
    out: Out = None,
    resume: Annotated[
        bool | None,
        typer.Option(help="Go on with the search in --out, or the newest of this recipe; --no-resume refuses one."),
    ] = None,
    retrain: Annotated[int, typer.Option(min=0, help="Train winner and parent anew over this many seeds.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Trials at once; they divide the cores and GPUs.")] = 1,
    chief: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Give the trials out here, to workers on other machines.")
    ] = None,
    worker: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Train trials for the chief there, until it has no more.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="CLUSTER", help="Train on a Ray cluster: auto, local, or its HOST:PORT.")
    ] = None,
    dry: Annotated[bool, typer.Option("--dry-run", help="Show the space and three samples; train nothing.")] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Search a better recipe over the recipe's search space."""
    from kzoo import recipe as recipes
    from kzoo.search import dry_run, join
    from kzoo.search import search as look

    parent = recipes.load(recipe, sets or ())
    if worker:
        if dry or chief or ray or retrain or resume is not None:
            raise RequestError("--worker takes no --chief, --ray, --retrain, --resume or --dry-run")
        trained = join(parent, worker, out=out, workers=workers)
        printing.as_json({"trained": trained}) if as_json else print(f"{trained} trials trained")
        return
    if dry:
        plan = dry_run(parent)
        print(json.dumps(plan, indent=1) if as_json else configs.dump(plan).rstrip())
        return
    winner = look(parent, out=out, workers=workers, resume=resume, retrain=retrain, chief=chief, ray=ray)
    if as_json:
        printing.as_json({"recipe": winner.name, **winner.values()})
    else:
        print(winner.dump(resolved=False), end="")


@app.command()
def export(
    run: RunFolder,
    formats: Annotated[str | None, typer.Option(help=_FORMATS)] = None,
    out: Out = None,
    serving_dir: Annotated[
        Path | None, typer.Option(help="Publish the SavedModel there too, as <name>/<version>/, for model servers.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="The model's name in --serving-dir; default: the network's.")] = None,
    version: Annotated[int | None, typer.Option(help="Its version there; default: one more than the highest.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Export a run and verify each artefact in a fresh process of its own runtime."""
    from kzoo.export import export as write
    from kzoo.export import publishing

    chosen = tuple(f.strip() for f in formats.split(",")) if formats else None
    if serving_dir is None:
        if name is not None or version is not None:
            raise RequestError("--name and --version say where in --serving-dir the model goes: name that too")
        printing.report(lambda: write(run, out=out, formats=chosen), as_json)
        return
    publishing.check_run(run, chosen, serving_dir, name, version)
    where = {"name": name, "version": version}
    printing.report(
        lambda: write(run, out=out, formats=chosen),
        as_json,
        publish=lambda report: publishing.publish(report.folder, serving_dir, **where),
    )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="An export's folder.")],
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Verify an export again: every byte, and every answer in a fresh process."""
    from kzoo.export import verify as check

    printing.report(lambda: check(folder), as_json)


@app.command()
def bench(
    subject: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A model's name or a run's folder.")],
    batch_sizes: Annotated[str, typer.Option(help="Comma-separated.")] = "1,8,64",
    seconds: Annotated[float, typer.Option(help="How long each batch size is timed.")] = 1.0,
    precision: Annotated[str | None, typer.Option(help="Comma-separated dtype policies, or all.")] = None,
    training: Annotated[bool, typer.Option("--training", help="Time training steps too.")] = False,
    jit: Annotated[bool, typer.Option("--jit", help="Let XLA compile the calls.")] = False,
    sets: Annotated[
        list[str] | None, typer.Option("--set", metavar="ARGUMENT=VALUE", help="A builder's argument.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Measure parameters, FLOPs, latency and throughput."""
    from kzoo.bench import PRECISIONS, check_subject
    from kzoo.bench import bench as measure

    try:
        sizes = tuple(int(s) for s in batch_sizes.split(","))
    except ValueError:
        raise RequestError(f"--batch-sizes takes whole numbers such as 1,8,64, not {batch_sizes!r}") from None
    arguments = {}
    for text in sets or ():
        key, _, value = text.partition("=")
        arguments[key.removeprefix("arguments.")] = configs.parse(value, f"--set {key}")
    # A key that is none of the builder's could be one of bench's own.
    check_subject(subject, arguments)
    precisions = PRECISIONS if precision == "all" else tuple(p.strip() for p in (precision or "").split(",") if p)
    how = {"precisions": precisions, "training": training, "jit_compile": jit}
    found = measure(subject, batch_sizes=sizes, seconds=seconds, **how, **arguments)
    if as_json:
        printing.as_json(found.as_dict())
        return
    print(f"{found.model}  {found.parameters:,} parameters  {printing.number(found.flops)} FLOPs for one item")
    print(f"{found.environment['processor']}, {found.environment['cores']} cores, {found.environment['backend']}")
    rows = [
        [t.precision, t.mode, t.batch_size, t.p50_ms, t.p95_ms, f"{t.items_per_second:,.0f}"] for t in found.timings
    ]
    printing.table(["precision", "mode", "batch", "p50 ms", "p95 ms", "items/s"], rows)


@app.command()
def serve(
    path: Annotated[
        Path, typer.Argument(metavar="RUN|ARTEFACT", help="A run's folder, an exported artefact, or <name>/<version>/.")
    ],
    name: Annotated[str | None, typer.Option(help="The model's name in addresses; default: the network's.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on; 0 takes a free one.")] = 8501,
    max_batch: Annotated[int, typer.Option(help="Examples in one call of the model.")] = 64,
    queue: Annotated[int, typer.Option(help="Requests in work at most; further ones are answered 429.")] = 256,
    max_body: Annotated[int, typer.Option(help="Bytes of a request's body.")] = 16 * 2**20,
    max_pixels: Annotated[int, typer.Option(help="Pixels of an encoded picture.")] = 40_000_000,
    max_length: Annotated[int, typer.Option(help="Tokens of a text to write or read, and bytes of a prompt.")] = 4096,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Answer over HTTP in TensorFlow Serving's and KServe's form; / is a page to try the model on."""
    from kzoo.serve import serve as start

    def ready(address: str, model) -> None:
        print(f"{model.name} is served at {address} ({', '.join(model.doors)}); Ctrl-C ends it", flush=True)

    bounds = {"max_batch": max_batch, "queue": queue, "max_body": max_body}
    bounds |= {"max_pixels": max_pixels, "max_length": max_length}
    start(path, name=name, host=host, port=port, ready=ready, **bounds)


@app.command()
def report(run: RunFolder, out: Out = None, as_json: Json = False, quiet: Quiet = False, debug: Debug = False) -> None:
    """Write a run's or a search's report as one HTML page: curves, figures, pictures, recipe; or trials."""
    if (run / "search.json").is_file():
        from kzoo.search.page import write
    else:
        from kzoo.report import report as write

    path = write(run, out=out)
    if as_json:
        printing.as_json({"report": str(path)})
    else:
        print(path)


def _score(run: Path, split: str | None, text: str | None, html: Path | None, as_json: bool) -> None:
    """``kzoo evaluate RUN --text FILE``."""
    if text is None or split is not None:
        raise RequestError("--html belongs to --text, and --text judges that file instead of a --split")
    from kzoo.score import score

    figures = score(run, text, html=html)
    if as_json:
        printing.as_json(figures)
        return
    printing.table(["figure", text], [[k, printing.figure(v)] for k, v in figures.items()])
    if html is not None:
        print(f"written to {html}")


def _prompt(given: str) -> str:
    """A prompt as it is, or what a file holds."""
    if not given.startswith("FILE:"):
        return given
    path = Path(given.removeprefix("FILE:"))
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestError(f"--prompt {given}: {getattr(error, 'strerror', None) or error}") from None


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    warnings.showwarning = _show_warning
    try:
        code = app(args=arguments, prog_name="kzoo", standalone_mode=False)
        if code == _INTERRUPTED:
            raise KeyboardInterrupt
    except KzooError as error:
        _fail(error, error.exit_code)
    except KeyboardInterrupt as error:
        _fail(error, 1, "interrupted")
    except Exception as error:
        if isinstance(error, typer.Abort):  # for a file that ends too early; for a Ctrl-C in typer's earlier versions
            error = error.__cause__ or error
        if isinstance(error, KeyboardInterrupt):
            _fail(error, 1, "interrupted")
        # typer's and click's own usage errors know how to show themselves and carry their exit code
        if hasattr(error, "exit_code") and hasattr(error, "show"):
            _fail(error, error.exit_code, error.format_message())
        _fail(error, 1, f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]} (--debug shows where)")
    sys.exit(code if isinstance(code, int) else 0)


def _fail(error: BaseException, code: int, message: str | None = None) -> None:
    if _debug or "--debug" in sys.argv:
        import traceback

        traceback.print_exception(error)
    if message or str(error):
        print(f"kzoo: {message or error}", file=sys.stderr)
    sys.exit(code)


def _show_warning(message, category, filename, lineno, file=None, line=None) -> None:
    """Warnings are one line; those of the libraries underneath are not the user's business."""
    if Path(filename).is_relative_to(Path(__file__).parent):
        print(f"kzoo: warning: {message}", file=sys.stderr)


def _given(**options) -> dict[str, Any]:
    """Options that were given."""
    return {k: v for k, v in options.items() if v is not None}
