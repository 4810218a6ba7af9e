"""The wheel, installed into a clean environment, trains the embedded default."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import kzoo

ROOT = Path(kzoo.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("kzoo is not imported from a checkout, so there is nothing to build")
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_its_recipes_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    for recipe in kzoo.list_recipes():
        assert f"kzoo/zoo_configs/{recipe}.yaml" in names
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "kzoo").rglob("*.py")}
    assert sources <= set(names)
    assert {n.partition("/")[0].partition("-")[0] for n in names} == {"kzoo"}
    assert sum(i.file_size for i in zipfile.ZipFile(wheel).infolist()) < 6_000_000


@pytest.mark.slow
def test_a_clean_environment_trains_the_embedded_default(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", str(wheel)], check=True)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    zoo = str(python.with_name("kzoo"))

    def run(*arguments):
        return subprocess.run([zoo, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True)

    done = run("train", "cnn_classifier/digits", "--out", "run", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["test"]["accuracy"] > 0.97
    assert "digits" in run("list").stdout
