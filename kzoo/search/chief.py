"""A search's chief: hands trials out to workers on other machines, and takes their outcomes.

Call `kzoo.quiet.import_keras` before importing this module. It serves Keras Tuner's gRPC service from the search's
study, whose journal is the only state, in place of a Keras Tuner oracle: that one waits for ever for a worker that was
killed. Here a trial whose worker is silent goes to another one, and of two results of one trial the first counts.
"""

import concurrent.futures
import contextlib
import dataclasses
import threading
import time
from collections import Counter
from collections.abc import Callable

import grpc
from keras_tuner.src.distribute.oracle_chief import OracleServicer

from kzoo import console
from kzoo.errors import RequestError
from kzoo.files import read_json
from kzoo.search import address as addresses
from kzoo.search import board, wire
from kzoo.search.engine import Outcome, Proposal
from kzoo.search.progress import Progress
from kzoo.search.study import Study
from kzoo.search.wire import Status, Trial

_LOOK = 0.5  # seconds between two looks for lost workers
_LOSSES = 3  # a trial that so many workers were lost with has failed


@dataclasses.dataclass
class Lease:
    """A trial that a worker has; none that is known while the workers of a chief that was killed may still have it."""

    proposal: Proposal
    worker: str = ""
    since: float = dataclasses.field(default_factory=lambda: time.monotonic())
    curve: dict[int, float] = dataclasses.field(default_factory=dict)


class Chief:
    """What Keras Tuner's `OracleServicer` calls for its workers, from several threads.

    Attributes:
        name: The search's, by which workers tell it from others of the same recipe.
        leases: Trials under way by their numbers.
        workers: When each worker was last heard of.
        over: Whether there is nothing more to do.
        failure: What went wrong in answering a worker, if anything did.
    """

    def __init__(self, study: Study, progress: Progress, name: str):
        self.study, self.progress, self.name = study, progress, name
        self.leases = {number: Lease(proposal) for number, proposal in study.pending.items()}
        study.pending.clear()
        self.workers: dict[str, float] = {}
        self.over, self.failure = False, None
        self._losses, self._drawn, self._lock = Counter(), 0, threading.Lock()

    def get_space(self):
        """Say which search this is."""
        return wire.space_of(self.name, self.study.recipe)

    def create_trial(self, worker: str) -> Trial:
        """Give a worker its trial; the same again when it asks again, as after a restart or a lost answer."""
        self._hear(worker)
        with self._alone():
            mine = next((lease for lease in self.leases.values() if lease.worker == worker), None)
            if mine is None and not self.study.hopeless and (proposal := self.study.next()):
                mine = self.leases[proposal.number] = Lease(proposal, worker)
                self.progress.begin(proposal)
            if mine is not None:
                return wire.proposed(mine.proposal, worker)
            if self.leases:
                return wire.bare(Status.IDLE)
            self.over = True
            self.workers.pop(worker, None)
            return wire.bare(Status.STOPPED)

    def update_trial(self, trial_id: str, metrics: dict[str, float], step: int = 0) -> Trial:
        """Take a sign of life, with the objective's value after an epoch if there is a new one.

        The answer's status tells the worker to go on (running), to end a hopeless trial (stopped), or to leave the
        trial because it has ended or is another's (invalid).
        """
        number, worker = wire.parties(trial_id)
        self._hear(worker)
        with self._alone():
            lease = self._lease(number, worker)
            if lease is None:
                return wire.bare(Status.INVALID, trial_id)
            if step == 1:
                lease.curve.clear()
            if metrics:
                lease.curve[step] = metrics[self.study.objective]
            curve = tuple(lease.curve[epoch] for epoch in sorted(lease.curve))
            self.progress.curves[number] = curve
            # Only a curve without gaps can be compared with others.
            hopeless = len(curve) == max(lease.curve, default=-1) and self.study.looks_hopeless(number, curve)
            return wire.bare(Status.STOPPED if hopeless else Status.RUNNING, trial_id)

    def end_trial(self, trial: Trial) -> None:
        """Take an outcome, the first one for its trial."""
        (number, worker), outcome = wire.parties(trial.trial_id), wire.outcome_of(trial)
        self._hear(worker)
        with self._alone():
            if "status" not in self.study.trials.get(number, {"status": "unknown"}):
                self._end(number, outcome, worker)

    def look(self) -> None:
        """Take their trials from workers that are lost, and bring what is shown up to date."""
        with self._lock:
            late = time.monotonic() - wire.LOST
            for number, lease in list(self.leases.items()):
                if max(lease.since, self.workers.get(lease.worker, lease.since)) < late:
                    self._lose(number, lease)
            # Calls that wait for the lock have noted their workers already, and more may come meanwhile.
            for worker in [w for w, heard in self.workers.copy().items() if heard < late]:
                del self.workers[worker]
                if not self.over:
                    console.say(f"worker {worker} is lost: nothing heard for {wire.LOST:.0f} s")
            study, events = self.study, len(self.study.journal.events)
            if not self.leases and not study.pending and (study.hopeless or not study.may_start):
                self.over = True
            if events > self._drawn:
                board.write(study)
                self._drawn = events
            self.progress.workers = max(1, len(self.workers))
            self.progress.show()

    @contextlib.contextmanager
    def _alone(self):
        """Keep other threads out; what goes wrong here is the search's failure, not the worker's."""
        with self._lock:
            try:
                yield
            except Exception as error:
                self.failure = error
                raise

    def _hear(self, worker: str) -> None:
        """Note that a worker lives, before it waits for others."""
        if worker not in self.workers and not self.over:
            console.say(f"worker {worker} has joined")
        self.workers[worker] = time.monotonic()

    def _lease(self, number: int, worker: str) -> Lease | None:
        """The lease by which a worker has a trial.

        A trial that nobody else has got meanwhile is still its own: the chief was started again, or the worker was
        silent for too long.
        """
        if number in self.study.pending:
            self.leases[number] = Lease(self.study.pending.pop(number), worker)
        lease = self.leases.get(number)
        if lease is not None and not lease.worker:
            lease.worker = worker
            self.progress.begin(lease.proposal)
        return lease if lease is not None and lease.worker == worker else None

    def _lose(self, number: int, lease: Lease) -> None:
        del self.leases[number]
        self._losses[number] += bool(lease.worker)
        if self._losses[number] >= _LOSSES:
            self._end(number, Outcome("failed", reason=f"{_LOSSES} workers were lost with it"), lease.worker, lease)
            return
        self.study.pending[number] = lease.proposal
        console.say(f"trial {number} waits for another worker")

    def _end(self, number: int, outcome: Outcome, worker: str, lease: Lease | None = None) -> None:
        lease = self.leases.pop(number, lease)
        proposal = lease.proposal if lease else self.study.pending.pop(number)
        self.study.end(number, outcome, worker.partition("#")[0])
        self.progress.end(proposal)


def direct(study: Study, address: addresses.Address, check: Callable[[], None] | None = None) -> None:
    """Have a study's trials run by workers, until there were enough or the space is exhausted.

    Args:
        study: The study, played back.
        address: Host and port to listen at.
        check: Called about twice a second while there is work; ends the search by raising.

    Raises:
        RequestError: Nothing can listen at the address.
        WorkError: The first trials all failed, or none succeeded.
    """
    progress = Progress(study, 1)
    board.write(study)
    state = read_json(study.folder / "search.json")
    # Searches that were begun before there were chiefs have no name of their own.
    chief = Chief(study, progress, state.get("id", state["digest"]))
    with _serving(chief, address), progress:
        where, recipe = addresses.join(address), study.recipe.name or "RECIPE"
        console.say(f"waiting for workers: kzoo search {recipe} --worker {where}")
        done = False
        while not done:
            # Workers that wait for a trial are told before the chief is gone.
            done = chief.over and not chief.workers
            chief.look()
            if chief.failure:
                raise chief.failure
            if check and not chief.over:
                check()
            if not done:
                time.sleep(_LOOK)
    if study.may_start and not study.hopeless:
        console.say(f"the space is exhausted after {len(study.trials)} trials")
    study.check()


@contextlib.contextmanager
def _serving(chief: Chief, address: addresses.Address):
    """Answer workers' calls at an address."""
    # A call waits while another asks for a proposal; signs of life are noted before that.
    pool = concurrent.futures.ThreadPoolExecutor(16)
    gate = wire.Gate(wire.identity(chief.study.recipe))
    server = grpc.server(pool, options=wire.options(), interceptors=[gate])
    wire.stubs.add_OracleServicer_to_server(OracleServicer(chief), server)
    try:
        server.add_insecure_port(addresses.join(address))
    except RuntimeError:
        raise RequestError(f"the chief cannot listen at {addresses.join(address)}") from None
    server.start()
    try:
        yield
    finally:
        server.stop(1).wait()
