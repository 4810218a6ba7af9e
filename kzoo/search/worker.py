"""A search's worker on another machine: asks its chief for trials, trains them, and tells how they ended.

Call `kzoo.quiet.import_keras` before importing this module.
"""

import concurrent.futures
import contextlib
import math
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import keras_tuner

from kzoo import console
from kzoo import recipe as recipes
from kzoo.errors import RequestError, WorkError
from kzoo.files import lock, read_json, write_json
from kzoo.process import Share
from kzoo.search import journal, wire
from kzoo.search.engine import Outcome, Proposal
from kzoo.search.study import Cancelled
from kzoo.search.trial import Curve, Trials
from kzoo.search.wire import Status, Trial

_FIRST = 10.0  # seconds to wait for a chief's first answer, which may be starting too
_PATIENCE = 600.0  # seconds to wait for one that answered before, and may be started again
_CALL = 5.0  # seconds to wait for one answer
_IDLE = 2.0  # seconds between two questions for a trial
_AWAY = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)


class _Taken(Exception):
    """The trial has ended or is another worker's."""


class Link:
    """A worker's end of the connection to its chief.

    Attributes:
        address: The chief's, for messages.
    """

    def __init__(self, recipe: recipes.Recipe, address: str, cancelled: threading.Event | None = None):
        self.recipe, self.address = recipe, address
        self._cancelled = cancelled or threading.Event()
        self._metadata = tuple(wire.identity(recipe).items())
        self._channel: grpc.Channel | None = None
        self._answered = time.monotonic()

    def search(self) -> str:
        """The name of the chief's search.

        Raises:
            RequestError: Nothing answers, or the chief is not one of this recipe.
        """
        try:
            answer = self._insist("GetSpace", wire.service.GetSpaceRequest(), _FIRST)
        except WorkError:
            raise RequestError(f"no chief answers at {self.address}") from None
        return wire.search_of(keras_tuner.HyperParameters.from_proto(answer.hyperparameters), self.recipe, self.address)

    def ask(self, worker: str) -> Trial:
        """The next trial, or a status that says there is none.

        Raises:
            WorkError: The chief has not answered for a long time.
        """
        return Trial.from_proto(self._insist("CreateTrial", wire.service.CreateTrialRequest(tuner_id=worker)).trial)

    def report(self, trial_id: str, metrics: dict[str, float], step: int) -> str | None:
        """Give a sign of life; returns the status that the trial is to have, None where no answer came.

        Raises:
            WorkError: The chief has not answered for a long time.
        """
        request = wire.service.UpdateTrialRequest(trial_id=trial_id, metrics=metrics, step=step)
        answer = self._call("UpdateTrial", request)
        if answer is None and time.monotonic() - self._answered > _PATIENCE:
            raise self._lost()
        return None if answer is None else Trial.from_proto(answer.trial).status

    def tell(self, trial_id: str, outcome: Outcome) -> None:
        """Say how a trial ended.

        Raises:
            WorkError: The chief has not answered for a long time.
        """
        self._insist("EndTrial", wire.service.EndTrialRequest(trial=wire.ended(trial_id, outcome).to_proto()))

    def close(self) -> None:
        """Close the connection."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _insist(self, name: str, request, patience: float | None = None):
        """Call until there is an answer."""
        until = time.monotonic() + (_PATIENCE if patience is None else patience)
        while True:
            began = time.monotonic()
            answer = self._call(name, request, max(0.1, min(_CALL, until - began)))
            if answer is not None:
                return answer
            if time.monotonic() >= until:
                raise self._lost()
            if self._cancelled.wait(max(0.0, began + 1.0 - time.monotonic())):
                raise Cancelled

    def _call(self, name: str, request, timeout: float | None = None):
        """Call once; None where no answer came. Each failure ends the connection, for the next may find another way."""
        if self._channel is None:
            self._channel = grpc.insecure_channel(self.address, options=wire.options())
        method = getattr(wire.stubs.OracleStub(self._channel), name)
        try:
            answer = method(request, wait_for_ready=True, timeout=timeout or _CALL, metadata=self._metadata)
        except grpc.RpcError as error:
            self.close()
            if error.code() in _AWAY:
                return None
            if error.code() == grpc.StatusCode.FAILED_PRECONDITION:
                raise RequestError(f"{self.address}: {error.details()}") from None
            raise WorkError(f"the chief at {self.address} answers: {error.details()}") from None
        self._answered = time.monotonic()
        return answer

    def _lost(self) -> WorkError:
        return WorkError(f"the chief at {self.address} has not answered for {_PATIENCE / 60:.0f} minutes")


class Worker:
    """Trains a chief's trials in a folder, as many at once as there are shares.

    Attributes:
        name: How the chief knows it; the same again when it is started again in the same folder.
        trained: Number of trials that it has trained.
    """

    def __init__(self, recipe: recipes.Recipe, goal: tuple[str, str], address: str, folder: Path):
        self.recipe, self.address, self.folder = recipe, address, folder
        self.trials = Trials(folder, recipe, *goal)
        # Machines that were made from one image may have a name and a folder in common.
        token = read_json(folder / "worker.json")["id"]
        self.name = f"{socket.gethostname()}:{folder.resolve()}#{token}"
        self.trained = 0
        self._cancelled = threading.Event()

    def work(self, shares: list[Share]) -> None:
        """Train until the chief has no more trials.

        Raises:
            WorkError: The chief has gone.
            RequestError: The chief has been replaced by one of another recipe.
        """
        console.say(f"training for the chief at {self.address}: {self.folder}")
        with concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
            futures = [pool.submit(self._serve, f"{self.name}-{n}", share) for n, share in enumerate(shares)]
            try:
                for future in concurrent.futures.as_completed(futures):
                    future.result()
            finally:
                self._cancelled.set()

    def _serve(self, name: str, share: Share) -> None:
        link = Link(self.recipe, self.address, self._cancelled)
        with contextlib.closing(link), contextlib.suppress(Cancelled):
            while not self._cancelled.is_set():
                trial = link.ask(name)
                if trial.status == Status.STOPPED:
                    return
                if trial.status == Status.IDLE:
                    self._cancelled.wait(_IDLE)
                    continue
                with contextlib.suppress(_Taken):
                    self._train(link, trial, share)

    def _train(self, link: Link, trial: Trial, share: Share) -> None:
        proposal = wire.proposal_of(trial, self.recipe.search.space)
        try:
            outcome = self.trials.run(proposal, share, self._watch(link, trial.trial_id))
        except RequestError as error:
            # What is wrong with every trial ends the search, which is for the chief to see.
            outcome = Outcome("failed", reason=str(error))
        link.tell(trial.trial_id, outcome)
        self.trained += 1
        console.say(_line(proposal, outcome, self.trials.objective))

    def _watch(self, link: Link, trial_id: str):
        """What is done twice a second while a trial trains: tell the chief what is new, ask whether to go on."""
        told, last = 0, -math.inf

        def watch(curve: Curve) -> bool:
            nonlocal told, last
            if self._cancelled.is_set():
                raise Cancelled
            if not all(map(math.isfinite, curve)):
                return True  # what has diverged need not go on
            if len(curve) < told:
                told = 0  # it went back to its checkpoint, or its next seed has begun
            news = [({self.trials.objective: value}, step) for step, value in enumerate(curve, 1)][told:]
            if not news and time.monotonic() - last < wire.BEAT:
                return False
            last = time.monotonic()
            for metrics, step in news or [({}, 0)]:
                status = link.report(trial_id, metrics, step)
                if status is None:
                    told = 0  # a chief that is started again knows nothing of the curve
                    return False
                if status == Status.INVALID:
                    raise _Taken
                if status == Status.STOPPED:
                    return True
                told = max(told, step)
            return False

        return watch


def _line(proposal: Proposal, outcome: Outcome, objective: str) -> str:
    told = f"{objective} {outcome.score:.4f}" if outcome.score is not None else outcome.reason
    return f"trial {proposal.number}  {outcome.status}  {told}  {outcome.epochs} epochs  {outcome.seconds:.0f} s"


@contextlib.contextmanager
def workplace(recipe: recipes.Recipe, search: str, out: Path | None) -> Iterator[Path]:
    """A folder for a worker's trials, kept from other processes; by default the first free one for this search.

    Raises:
        RequestError: `out` holds something else, or another process works there.
    """
    number = 1
    with contextlib.ExitStack() as stack:
        while True:
            folder = out or journal.base(recipe) / f"worker-{search}-{number}"
            _open(folder, search)
            try:
                stack.enter_context(lock(folder, "searching"))
                break
            except RequestError:
                if out:
                    raise
                number += 1
        yield folder


def _open(folder: Path, search: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(f"the worker's folder {folder} cannot be made: {error.strerror}") from None
    found = read_json(folder / "worker.json")
    if found is None:
        if any(not p.name.startswith(".") for p in folder.iterdir()):
            raise RequestError(f"{folder} is not empty and no worker's; name another --out")
        write_json(folder / "worker.json", {"search": search, "id": secrets.token_hex(2)})
    elif found.get("search") != search:
        raise RequestError(f"{folder} holds trials of another search; name another --out")
