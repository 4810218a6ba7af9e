"""The command line as its users meet it: a subprocess, its two streams, its exit code."""

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest

from kzoo import cli, pretrained, printing


def facts(outcome):
    """JSON on standard output, alone there."""
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.fixture(scope="module")
def pictures(small_run, tmp_path_factory):
    from PIL import Image

    folder = tmp_path_factory.mktemp("pictures")
    with np.load(small_run.path / "samples.npz") as stored:
        for number, pixels in enumerate(stored["images"][:3]):
            Image.fromarray(pixels[..., 0]).save(folder / f"{number}.png")
    return folder


def test_help_names_every_verb(command):
    shown = command("--help")
    assert shown.code == 0
    for verb in ("list", "info", "train", "evaluate", "predict", "search", "export", "verify", "bench", "report"):
        assert verb in shown.out
        assert command(verb, "--help").code == 0
    assert command("--version").out.strip() == __import__("kzoo").__version__


def test_list_and_info(command):
    listed = facts(command("list", "--json"))
    assert {"cnn_classifier", "mlp_classifier"} <= {m["name"] for m in listed}
    assert "cnn_classifier" in command("list").out
    known = facts(command("info", "cnn_classifier", "--json"))
    assert known["parameter_count"] == 289642
    assert {"name": "kernel_size", "type": "int", "default": 3} in known["parameters"]
    assert "kernel_size" in command("info", "cnn_classifier").out


def test_train_evaluate_predict_report(command, pictures, tmp_path):
    folder = tmp_path / "run"
    sets = ["--set", "train.epochs=1", "--set", "arguments.filters=[4,8]", "--set", "arguments.blocks_per_stage=1"]
    trained = command("train", "cnn_classifier/digits", *sets, "--out", folder, "--json")
    assert facts(trained)["run"] == str(folder) and "epoch 1/1" in trained.err and "\r" not in trained.err
    for file in ("recipe.yaml", "environment.json", "command.txt", "metrics.csv", "model.keras", "summary.json"):
        assert (folder / file).is_file(), file
    assert "kzoo" in (folder / "command.txt").read_text() or "__main__" in (folder / "command.txt").read_text()
    assert list((folder / "tensorboard").rglob("events.*"))

    judged = command("evaluate", folder, "--json", "--quiet")
    assert facts(judged)["examples"] == 360 and judged.err == ""
    assert "precision" in command("evaluate", folder, "--split", "validation").out

    answered = facts(command("predict", folder, pictures, "--json", "--top", "2"))
    assert len(answered) == 3 and len(answered[0]["top"]) == 2
    rows = list(csv.DictReader(io.StringIO(command("predict", folder, f"{pictures}/*.png", "--csv").out)))
    assert [r["label1"] for r in rows] == [a["label"] for a in answered]
    assert "0.png" in command("predict", folder, pictures / "0.png").out

    page = command("report", folder).out.strip()
    text = Path(page).read_text()
    assert "cnn_classifier" in text and text.count("data:image/png;base64") == 3
    assert "src='http" not in text


def test_quiet_training_says_results_only(command, tmp_path):
    sets = ["--set", "train.epochs=1", "--set", "arguments.filters=[4]"]
    done = command("train", "cnn_classifier/digits", *sets, "--out", tmp_path / "run", "--quiet")
    assert done.code == 0 and done.err == "" and done.out.startswith("run  ")


def test_export_and_verify(command, small_run, tmp_path):
    folder = tmp_path / "out"
    exported = facts(command("export", small_run.path, "--formats", "keras,saved_model", "--out", folder, "--json"))
    assert exported["ok"] and set(exported["formats"]) == {"keras", "saved_model"}
    assert "verified" in command("verify", folder).out
    changed = folder / "model.keras"
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    failed = command("verify", folder)
    assert failed.code == 1 and "model.keras" in failed.err and "Traceback" not in failed.err


def test_tables_are_of_plain_text_and_keep_their_lines_whole_in_a_pipe(capsys):
    printing.table(["input", "label"], [["a:cat:b.png", "[b]dog[/b] :100:"]])
    assert capsys.readouterr().out.split() == ["input", "label", "a:cat:b.png", "[b]dog[/b]", ":100:"]
    printing.table([f"label{n}" for n in range(200)], [[f"class-number-{n}" for n in range(200)]])
    assert [len(line.split()) for line in capsys.readouterr().out.splitlines()] == [200, 200]


def interrupted():
    raise KeyboardInterrupt


def too_short():
    raise EOFError("the file ended before its end marker was reached")


@pytest.mark.parametrize(("happen", "told"), [(interrupted, "interrupted"), (too_short, "EOFError: the file ended")])
def test_whatever_ends_the_work_is_said_and_is_exit_code_1(happen, told, monkeypatch, capsys):
    monkeypatch.setattr(cli.registry, "list_models", lambda *_, **__: happen())
    with pytest.raises(SystemExit) as ended:
        cli.main(["list"])
    assert ended.value.code == 1 and capsys.readouterr().err.strip().startswith(f"kzoo: {told}")


def test_info_tells_the_headline_of_weights_of_any_task(tmp_path, monkeypatch, capsys):
    entry = {"file": "scenes.npz", "sha256": "0" * 64, "size": 1, "card": {}, "licence": "Apache-2.0"}
    (tmp_path / "vgg16_detector").mkdir()
    for tag, metrics in (("scenes", {"map50": 0.75, "map": 0.5}), ("untested", {})):
        text = json.dumps({**entry, "metrics": metrics, "data": "road scenes"})
        (tmp_path / "vgg16_detector" / f"{tag}.yaml").write_text(text)
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main(["info", "vgg16_detector"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "weights scenes  0.0 MB, test map50 0.7500, road scenes" in said
    assert "weights untested  0.0 MB, road scenes" in said


def test_no_arguments_show_the_help_alone(command):
    shown = command()
    assert shown.code == 2 and "Usage" in shown.out + shown.err and "kzoo: \n" not in shown.err


def test_bench(command):
    found = facts(command("bench", "mlp_classifier", "--batch-sizes", "1,2", "--seconds", "0.05", "--json"))
    assert found["parameters"] == 89610 and len(found["timings"]) == 2
    assert "FLOPs" in command("bench", "mlp_classifier", "--set", "units=[5]", "--seconds", "0.05").out


def test_search_shows_its_plan(command):
    plan = facts(command("search", "cnn_classifier/digits", "--dry-run", "--json"))
    assert len(plan["samples"]) == 3 and "train.optimizer.learning_rate" in plan["samples"][0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frob"], "No such command 'frob'"),
        (["train"], "either a RECIPE or --resume"),
        (["train", "cnn_classifier/digits", "--set", "train.epoch=3"], "did you mean 'epochs'"),
        (["train", "cnn_classifier/digits", "--frob"], "No such option: --frob"),
        (["train", "cnn_classifier/digit"], "did you mean 'cnn_classifier/digits'"),
        (["train", "--resume", "/nowhere"], "no such folder"),
        (["train", "--resume", "/nowhere", "--set", "train.epochs=3"], "takes no --set"),
        (["info", "cnn"], "did you mean 'cnn_classifier'"),
        (["list", "zzz*"], "no model matches"),
        (["evaluate", "/nowhere"], "not a run folder"),
        (["predict", "/nowhere", "x.png"], "not a run folder"),
        (["export", "/nowhere"], "not a run folder"),
        (["verify", "/nowhere"], "/nowhere"),
        (["report", "/nowhere"], "not a run folder"),
        (["bench", "nothing"], "no model is called"),
        (["bench", "mlp_classifier", "--batch-sizes", "a"], "whole numbers"),
        (["bench", "mlp_classifier", "--set", "training=true"], "mlp_classifier has no argument 'training'"),
        (["search", "cnn_classifier/digits", "--set", "search.space={}"], "search"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_exit_code_2(command, arguments, message):
    failed = command(*arguments)
    assert failed.code == 2 and failed.out == ""
    assert message in failed.err and "Traceback" not in failed.err
    assert len(failed.err.strip().splitlines()) == 1


def test_debug_shows_the_traceback(command):
    failed = command("train", "--resume", "/nowhere", "--debug")
    assert failed.code == 2 and "Traceback" in failed.err


def test_a_missing_data_set_is_answered_without_the_network(command, tmp_path):
    env = {"TFDS_DATA_DIR": str(tmp_path)}
    failed = command("train", "cnn_classifier/mnist", env=env, timeout=100)
    assert failed.code == 2 and f"not prepared at {tmp_path}/mnist" in failed.err
