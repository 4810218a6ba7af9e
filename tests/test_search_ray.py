"""A search on a Ray cluster of this machine."""

import csv
import importlib.util
import os

import pytest

import kzoo
from kzoo.errors import RequestError
from kzoo.files import read_json
from kzoo.search import cluster
from tests.searching import RATE, journal, parent

TINY = {
    "arguments.filters": [4, 8],
    "arguments.blocks_per_stage": 1,
    "train.epochs": 2,
    "search": {"max_trials": 3, "space": {RATE: {"min": 1e-3, "max": 1e-2, "log": True}}},
}


@pytest.mark.parametrize(
    ("nodes", "number", "each"),
    [
        ([{"CPU": 8.0}], 3, (2, 0)),
        ([{"CPU": 4.0}, {"CPU": 4.0}, {"CPU": 4.0}], 4, (2, 0)),  # three each would leave room for three only
        ([{"CPU": 16.0, "GPU": 8.0}], 4, (4, 2)),
        ([{"CPU": 16.0, "GPU": 2.0}, {"CPU": 16.0, "GPU": 2.0}], 4, (8, 1)),
        ([{"CPU": 16.0, "GPU": 2.0}], 5, (3, 1 / 3)),
    ],
)
def test_workers_divide_the_cluster(nodes, number, each):
    assert cluster.divide(nodes, number) == each


def test_more_workers_than_cores_are_refused():
    with pytest.raises(RequestError, match="workers is 3, and the Ray cluster has 2 cores"):
        cluster.divide([{"CPU": 2.0}, {"GPU": 1.0}], 3)
    with pytest.raises(RequestError, match="leave out one of the two"):
        kzoo.search(parent(), ray="local", chief="127.0.0.1:7777")


@pytest.mark.skipif(importlib.util.find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray(tmp_path):
    with pytest.raises(RequestError, match=r"pip install 'kzoo\[ray\]'"):
        kzoo.search(parent(), out=tmp_path / "s", ray="local")
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_a_search_on_a_cluster(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RequestError, match="no Ray cluster at"):
        kzoo.search(kzoo.load_recipe("cnn_classifier/digits", TINY), out="none", ray="auto")
    recipe = kzoo.load_recipe("cnn_classifier/digits", TINY)
    here = kzoo.search(recipe, out="here")
    there = kzoo.search(recipe, out="there", ray="local", workers=min(2, len(os.sched_getaffinity(0))))
    assert there.digest() == here.digest()
    rows = list(csv.DictReader((tmp_path / "there/trials.csv").read_text().splitlines()))
    assert [r["status"] for r in rows] == ["completed"] * 3
    winners = [read_json(tmp_path / name / "search.json")["winner"] for name in ("here", "there")]
    assert winners[0] == winners[1]
    assert all("worker-" in e["where"] for e in journal(tmp_path / "there") if e["event"] == "end")
