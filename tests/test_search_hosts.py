"""A chief and workers as processes that are killed, and as hosts that cannot reach each other for a while."""

import contextlib
import csv
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kzoo.files import read_json, write_text
from tests.test_search_kills import RECIPE

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "kzoo", "search", "digits.yaml", "--quiet"]


class Processes:
    """Searches, chiefs and workers in a folder, each with a log."""

    def __init__(self, folder: Path):
        self.folder, self.running = folder, []

    def start(self, name: str, *arguments: str, inside: str = "") -> subprocess.Popen:
        host = ["ip", "netns", "exec", inside] if inside else []
        with open(self.folder / f"{name}.log", "ab") as log:
            command = [*host, *COMMAND, *arguments, "--out", name]
            started = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log)
        self.running.append(started)
        return started

    def log(self) -> str:
        return "".join(p.read_text() for p in sorted(self.folder.glob("*.log")))


@pytest.fixture
def processes(tmp_path):
    write_text(tmp_path / "digits.yaml", RECIPE.replace("TRIALS", "6"))
    started = Processes(tmp_path)
    yield started
    for process in started.running:
        process.kill()
        process.wait()


def kill(process: subprocess.Popen) -> None:
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def rows(folder: Path) -> list[dict]:
    path = folder / "trials.csv"
    return list(csv.DictReader(path.read_text().splitlines())) if path.is_file() else []


def outcomes(folder: Path) -> dict[str, tuple]:
    return {r["number"]: (r["status"], r["score"], r["epochs"]) for r in rows(folder) if r["status"] != "running"}


def wait_for(condition, processes: Processes, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, processes.log()
        time.sleep(0.1)


def in_training(folder: Path) -> bool:
    """Whether a worker is in the middle of a trial."""
    runs = [p.parent for p in folder.glob("trials/*/run/checkpoints/last.npz")]
    return any(not (p.parent / "summary.json").is_file() for p in runs)


def test_killed_worker_and_chief_change_nothing(processes, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        place = f"127.0.0.1:{probe.getsockname()[1]}"
    assert processes.start("whole").wait() == 0
    chief = processes.start("chief", "--chief", place)
    first = processes.start("first", "--worker", place)
    wait_for(lambda: outcomes(tmp_path / "chief") and in_training(tmp_path / "first"), processes)
    kill(first)
    second = processes.start("second", "--worker", place)
    wait_for(lambda: in_training(tmp_path / "second"), processes)
    kill(chief)
    known = outcomes(tmp_path / "chief")
    chief = processes.start("chief", "--chief", place, "--resume")
    assert chief.wait() == 0 and second.wait() == 0, processes.log()
    assert known and known.items() <= outcomes(tmp_path / "chief").items()
    assert outcomes(tmp_path / "chief") == outcomes(tmp_path / "whole")
    winners = [read_json(tmp_path / name / "search.json")["winner"] for name in ("whole", "chief")]
    assert winners[0] == winners[1]


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def hosts():
    """Three hosts on one network: a bridge and network namespaces with an address each."""
    if not shutil.which("ip") or os.geteuid() != 0:
        pytest.skip("network namespaces need ip and root")
    tag = f"kz{secrets.token_hex(3)}"
    found = {f"{tag}{n}": f"10.199.87.{n}" for n in (1, 2, 3)}
    with contextlib.ExitStack() as stack:
        try:
            run("ip", "link", "add", tag, "type", "bridge")
            stack.callback(run, "ip", "link", "del", tag)
            run("ip", "link", "set", tag, "up")
            for name, address in found.items():
                run("ip", "netns", "add", name)
                stack.callback(run, "ip", "netns", "del", name)
                run("ip", "link", "add", f"{name}v", "type", "veth", "peer", "name", "eth0", "netns", name)
                run("ip", "link", "set", f"{name}v", "master", tag, "up")
                for setting in (["addr", "add", f"{address}/24", "dev", "eth0"], ["link", "set", "eth0", "up"]):
                    run("ip", "-n", name, *setting)
                run("ip", "-n", name, "link", "set", "lo", "up")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
        yield found


def test_a_host_that_is_cut_off_costs_only_time(processes, hosts, tmp_path):
    (one, address), (two, _), (three, _) = hosts.items()
    place = f"{address}:7777"
    chief = processes.start("chief", "--chief", place, inside=one)
    first = processes.start("first", "--worker", place, inside=two)
    wait_for(lambda: in_training(tmp_path / "first"), processes)
    run("ip", "link", "set", f"{two}v", "down")
    second = processes.start("second", "--worker", place, inside=three)
    # The trial that the first one has is given to the second, and the search ends without it.
    assert chief.wait() == 0 and second.wait() == 0, processes.log()
    assert [r["status"] for r in rows(tmp_path / "chief")] == ["completed"] * 6
    kill(first)
    assert not list((tmp_path / "first").glob("trials/0006"))


def test_a_host_comes_back(processes, hosts, tmp_path):
    (one, address), (two, _), _ = hosts.items()
    place = f"{address}:7777"
    chief = processes.start("chief", "--chief", place, inside=one)
    first = processes.start("first", "--worker", place, inside=two)
    wait_for(lambda: in_training(tmp_path / "first"), processes)
    run("ip", "link", "set", f"{two}v", "down")
    time.sleep(40)  # longer than the chief waits
    assert chief.poll() is None and first.poll() is None
    run("ip", "link", "set", f"{two}v", "up")
    assert first.wait() == 0 and chief.wait() == 0, processes.log()
    assert [r["status"] for r in rows(tmp_path / "chief")] == ["completed"] * 6
