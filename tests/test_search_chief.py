"""Chief and workers: trials that travel, processes that are lost, and two sides that do not fit together."""

import concurrent.futures
import shutil
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import kzoo
from kzoo import process
from kzoo.errors import DiskFull, RequestError, WorkError
from kzoo.search import address, join
from tests.searching import Trainer, journal, parent, table


@pytest.fixture
def place() -> str:
    """An address where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture
def swift(monkeypatch):
    """Nobody is waited for longer than a second."""
    from kzoo.quiet import import_keras

    import_keras()
    from kzoo.search import chief, wire, worker

    for module, name, value in (
        (wire, "LOST", 1.0),
        (wire, "BEAT", 0.1),
        (chief, "_LOOK", 0.05),
        (worker, "_IDLE", 0.05),
        (worker, "_FIRST", 3.0),
        (worker, "_CALL", 1.0),
    ):
        monkeypatch.setattr(module, name, value)


class Background(threading.Thread):
    """A call in a thread; `outcome` is what it returned or raised."""

    def __init__(self, function, *arguments, **options):
        super().__init__(daemon=True)
        self.call = (function, arguments, options)
        self.start()

    def run(self):
        function, arguments, options = self.call
        try:
            self.outcome = function(*arguments, **options)
        except BaseException as error:
            self.outcome = error

    def result(self):
        self.join(60)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize("tuner", ["random", "hyperband", "tpe"])
def test_trials_travel_and_come_back_as_they_are(tuner, place, tmp_path, trainer, swift):
    engine = "optuna" if tuner == "tpe" else "keras_tuner"
    settings = {
        "tuner": tuner,
        "engine": engine,
        "max_trials": 13,
        "pruner": "median" if engine == "optuna" else "none",
    }
    recipe = parent(**settings)
    trainer.failing = {2}
    here = kzoo.search(recipe, out=tmp_path / "here")
    working = Background(join, recipe, place, out=tmp_path / "worker")
    there = kzoo.search(recipe, out=tmp_path / "chief", chief=place)
    assert working.result() == 13
    assert there.digest() == here.digest()
    known = ("event", "trial", "values", "raw", "status", "score", "epochs", "curve", "reason")
    events = [[{k: e.get(k) for k in known} for e in journal(tmp_path / name)] for name in ("here", "chief")]
    assert events[0] == events[1]
    assert journal(tmp_path / "chief")[-1]["where"].endswith(str(tmp_path / "worker"))
    # The trials lie with the worker.
    assert not (tmp_path / "chief/trials").exists() and (tmp_path / "worker/trials/0013/run").is_dir()


def test_two_workers_share_the_trials(place, tmp_path, trainer, swift):
    trainer.together = threading.Barrier(2)
    working = [Background(join, parent(), place, out=tmp_path / f"w{n}") for n in range(2)]
    kzoo.search(parent(), out=tmp_path / "chief", chief=place)
    assert [w.result() for w in working] == [3, 3]
    assert [r["status"] for r in table(tmp_path / "chief")] == ["completed"] * 6


def test_a_worker_joins_while_the_chief_looks_for_lost_ones(swift):
    """Calls come in other threads, and note their worker before they wait for the lock."""
    from kzoo.search.chief import Chief

    class Heard(float):
        def __lt__(self, late):
            chief._hear("another")
            return super().__lt__(late)

    study = SimpleNamespace(pending={}, hopeless=False, may_start=True, journal=SimpleNamespace(events=[]))
    chief = Chief(study, SimpleNamespace(show=lambda: None), "0a")
    chief.workers = {"silent": Heard(0.0), "one": Heard(time.monotonic())}
    chief.look()
    assert list(chief.workers) == ["one", "another"]


class Silent(Exception):
    """Ends a worker as a kill does: nothing is said to the chief."""


def test_a_lost_workers_trial_is_given_to_another(place, tmp_path, trainer, swift, capsys, monkeypatch):
    def die(recipe, *arguments):
        if "/first/" in str(recipe) and recipe.parent.name == "0002":
            raise Silent
        return trainer(recipe, *arguments)

    monkeypatch.setattr(process, "_run", die)
    chief = Background(kzoo.search, parent(), out=tmp_path / "chief", chief=place)
    with pytest.raises(Silent):
        Background(join, parent(), place, out=tmp_path / "first").result()
    assert Background(join, parent(), place, out=tmp_path / "second").result() == 5
    chief.result()
    assert [r["status"] for r in table(tmp_path / "chief")] == ["completed"] * 6
    where = {e["trial"]: Path(e["where"]).name for e in journal(tmp_path / "chief") if e["event"] == "end"}
    assert where == {1: "first", **{n: "second" for n in range(2, 7)}}
    assert "trial 2 waits for another worker" in capsys.readouterr().err


def test_a_worker_whose_disk_is_full_ends_and_its_trial_is_given_to_another(place, tmp_path, trainer, swift):
    trainer.full = {2}
    chief = Background(kzoo.search, parent(), out=tmp_path / "chief", chief=place)
    told = rf"^the disk is full: .* MB are left for {tmp_path}/first: .* --worker {place} --out {tmp_path}/first$"
    with pytest.raises(DiskFull, match=told):
        Background(join, parent(), place, out=tmp_path / "first").result()
    trainer.full = set()
    assert Background(join, parent(), place, out=tmp_path / "second").result() == 5
    chief.result()
    assert [r["status"] for r in table(tmp_path / "chief")] == ["completed"] * 6


def test_a_worker_that_is_started_again_has_its_trial_at_once(place, tmp_path, trainer, swift, monkeypatch):
    from kzoo.search import wire

    monkeypatch.setattr(wire, "LOST", 60.0)
    chief = Background(kzoo.search, parent(), out=tmp_path / "chief", chief=place)
    trainer.dying = 2
    with pytest.raises(KeyboardInterrupt):
        Background(join, parent(), place, out=tmp_path / "worker").result()
    trainer.dying = None
    trainer.calls.clear()
    assert Background(join, parent(), place, out=tmp_path / "worker").result() == 5
    chief.result()
    assert [c["number"] for c in trainer.calls] == [2, 3, 4, 5, 6]


def test_a_trial_that_workers_die_of_has_failed(place, tmp_path, trainer, swift):
    trainer.dying = 2
    chief = Background(kzoo.search, parent(), out=tmp_path / "chief", chief=place)
    for n in range(3):
        with pytest.raises(KeyboardInterrupt):
            Background(join, parent(), place, out=tmp_path / f"w{n}").result()
    Background(join, parent(), place, out=tmp_path / "last").result()
    chief.result()
    rows = table(tmp_path / "chief")
    assert [r["status"] for r in rows] == ["completed", "failed"] + ["completed"] * 4
    assert rows[1]["reason"] == "3 workers were lost with it"


def answer(study_folder: Path, recipe):
    """A chief without its server, as Keras Tuner's service calls it."""
    from kzoo.search import journal as journals
    from kzoo.search.chief import Chief
    from kzoo.search.progress import Progress
    from kzoo.search.study import Study, goal

    journals.open_folder(recipe, goal(recipe), study_folder, None)
    study = Study(study_folder, recipe)
    study.play_back()
    return Chief(study, Progress(study, 1), "c0ffee")


def test_leases(tmp_path, swift, monkeypatch):
    """What the chief answers to whom, call by call."""
    from kzoo.search import chief as chiefs
    from kzoo.search import wire
    from kzoo.search.engine import Outcome
    from kzoo.search.wire import Status

    clock = [0.0]
    monkeypatch.setattr(chiefs.time, "monotonic", lambda: clock[0])
    chief = answer(tmp_path / "s", parent(max_trials=2))
    first = chief.create_trial("a#0")
    assert first.trial_id == chief.create_trial("a#0").trial_id == "1@a#0"  # the first answer was lost
    assert chief.create_trial("b#0").trial_id == "2@b#0" and chief.create_trial("c#0").status == Status.IDLE
    assert chief.update_trial("1@a#0", {"val_accuracy": 0.5}, 1).status == Status.RUNNING
    assert chief.update_trial("1@c#0", {}, 0).status == Status.INVALID  # it is another's
    clock[0] = 0.9
    chief.update_trial("2@b#0", {}, 0)
    clock[0] = 1.5
    chief.look()
    assert list(chief.study.pending) == [1] and list(chief.leases) == [2]
    # The silent one comes back before anyone else has taken it, then is silent again and too late.
    assert chief.update_trial("1@a#0", {}, 0).status == Status.RUNNING and not chief.study.pending
    clock[0] = 3.0
    chief.look()
    assert chief.create_trial("c#0").trial_id == "1@c#0"
    assert chief.update_trial("1@a#0", {}, 0).status == Status.INVALID
    # Its outcome counts all the same if it is the first; the other is told, and its own is not taken.
    chief.end_trial(wire.ended("1@a#0", Outcome("completed", 0.7, 9, 1.0)))
    assert chief.update_trial("1@c#0", {}, 0).status == Status.INVALID
    chief.end_trial(wire.ended("1@c#0", Outcome("completed", 0.9, 9, 1.0)))
    assert chief.study.trials[1]["score"] == 0.7 and not chief.over
    # A chief that is started again leaves the trials under way to whoever had them, for a while.
    again = answer(tmp_path / "s", parent(max_trials=2))
    assert again.create_trial("d#0").status == Status.IDLE
    assert again.update_trial("2@b#0", {}, 0).status == Status.RUNNING
    again.end_trial(wire.ended("2@b#0", Outcome("completed", 0.8, 9, 1.0)))
    assert again.create_trial("d#0").status == Status.STOPPED and again.over
    again.end_trial(wire.ended("7@b#0", Outcome("completed", 0.8, 9, 1.0)))  # of a search that was begun anew
    assert len(again.study.trials) == 2


def test_both_sides_must_fit(place, tmp_path, trainer, swift, monkeypatch):
    from kzoo import _version
    from kzoo.search import wire

    chief = Background(kzoo.search, parent(), out=tmp_path / "chief", chief=place)
    with pytest.raises(RequestError, match="have different recipes, by their digests: "):
        join(parent().override({"train.epochs": 8}), place, out=tmp_path / "a")
    with pytest.raises(RequestError, match="have different search settings"):
        join(parent(seed=1), place, out=tmp_path / "a")
    own = wire.identity
    monkeypatch.setattr(wire, "identity", lambda recipe: {**own(recipe), "kzoo-version": "0.0.1"})
    with pytest.raises(RequestError, match=f"different versions of kzoo: {_version.__version__} and 0.0.1"):
        join(parent(), place, out=tmp_path / "a")
    monkeypatch.setattr(wire, "identity", own)
    assert not (tmp_path / "a").exists()
    with pytest.raises(RequestError, match=f"cannot listen at {place}: Address already in use"):
        kzoo.search(parent(), out=tmp_path / "other", chief=place)
    assert not (tmp_path / "other").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/thesis.tex").write_text("")
    with pytest.raises(RequestError, match="no worker's"):
        join(parent(), place, out=tmp_path / "b")
    join(parent(), place, out=tmp_path / "a")
    chief.result()
    again = Background(kzoo.search, parent(), out=tmp_path / "again", chief=place)
    with pytest.raises(RequestError, match="trials of another search"):
        join(parent(), place, out=tmp_path / "a")
    shutil.rmtree(tmp_path / "a")
    join(parent(), place, out=tmp_path / "a")
    again.result()


def test_a_foreign_chief_is_refused(place, tmp_path, swift, monkeypatch):
    import grpc
    import keras_tuner
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    from kzoo.search import wire

    oracle = keras_tuner.oracles.RandomSearchOracle(objective=keras_tuner.Objective("val_accuracy", "max"))
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    wire.stubs.add_OracleServicer_to_server(OracleServicer(oracle), server)
    server.add_insecure_port(place)
    server.start()
    with pytest.raises(RequestError, match=f"what answers at {place} is no chief of kzoo"):
        join(parent(), place, out=tmp_path / "a")
    # Nor is one that would have a worker write elsewhere.
    monkeypatch.setattr(oracle, "get_space", lambda: wire.space_of("/../../../tmp/elsewhere", parent()))
    with pytest.raises(RequestError, match="no chief of kzoo"):
        join(parent(), place)
    server.stop(None)


def test_a_chief_that_has_gone(place, tmp_path, trainer, swift, monkeypatch):
    from kzoo.search import worker

    monkeypatch.setattr(worker, "_FIRST", 0.5)
    with pytest.raises(RequestError, match=f"no chief answers at {place}"):
        join(parent(), place, out=tmp_path / "a")
    monkeypatch.setattr(worker, "_FIRST", 5.0)
    monkeypatch.setattr(worker, "_PATIENCE", 1.0)
    monkeypatch.setattr(Trainer, "value", staticmethod(lambda recipe, epoch: chief.wait(0.1) or 0.5))

    class Stop(Exception):
        """Ends the chief."""

    from kzoo.search import chief as chiefs

    chief = threading.Event()
    look = chiefs.Chief.look

    def end(self):
        if trainer.calls:
            raise Stop
        look(self)

    monkeypatch.setattr(chiefs.Chief, "look", end)
    searching = Background(kzoo.search, parent(), out=tmp_path / "chief", chief=place)
    with pytest.raises(WorkError, match=f"chief at {place} has not answered for"):
        join(parent(), place, out=tmp_path / "a")
    with pytest.raises(Stop):
        searching.result()


def test_gives_up_when_the_first_five_fail(place, tmp_path, trainer, swift):
    trainer.failing = set(range(1, 100))
    working = Background(join, parent(max_trials=50), place, out=tmp_path / "worker")
    with pytest.raises(WorkError, match=rf"the last: the loss is nan .*\(logs: .*:{tmp_path}/worker/trials/"):
        kzoo.search(parent(max_trials=50), out=tmp_path / "s", chief=place)
    assert working.result() == 5


@pytest.mark.parametrize("text", ["7777", "host", "host:", ":7777", "host:0", "host:65536", "http://host:7", "a:b:7"])
def test_addresses(text):
    with pytest.raises(RequestError, match="is HOST:PORT, such as"):
        address.parse(text)
    assert address.parse("some-host.net:7777") == ("some-host.net", 7777)
    assert address.join(address.parse("[::1]:80")) == "[::1]:80"


def test_the_command_refuses_in_one_sentence(command, place, tmp_path):
    for arguments, told in (
        (("--chief", "here"), "HOST:PORT, such as"),
        (("--worker", place, "--retrain", "2"), "--worker takes no --chief"),
        (("--chief", "203.0.113.7:7777"), "cannot listen at 203.0.113.7:7777: Cannot assign requested address"),
        (("--chief", place, "--workers", "2"), "a chief trains no trials itself"),
    ):
        done = command("search", "cnn_classifier/digits", *arguments, cwd=tmp_path)
        assert done.code == 2 and told in done.err and len(done.err.splitlines()) == 1, done.err


def test_what_fails_in_the_chief_ends_the_search(place, tmp_path, trainer, swift, monkeypatch):
    def fail(*_):
        raise OSError("Input/output error")

    from kzoo.search.study import Study

    monkeypatch.setattr(Study, "end", fail)
    searching = Background(kzoo.search, parent(), out=tmp_path / "chief", chief=place)
    with pytest.raises(WorkError, match=f"the chief at {place} answers: .*Input/output error"):
        join(parent(), place, out=tmp_path / "a")
    with pytest.raises(OSError, match="Input/output error"):
        searching.result()
