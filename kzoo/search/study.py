"""A search under way: what is known of its trials, and the loop that has them proposed, run and journalled."""

import concurrent.futures
import dataclasses
import importlib
import math
import threading
import time
from pathlib import Path

from kzoo import console
from kzoo import recipe as recipes
from kzoo.errors import WorkError
from kzoo.process import Share
from kzoo.quiet import import_keras
from kzoo.search import board
from kzoo.search.engine import Outcome, Proposal, open_engine, trial_limit
from kzoo.search.journal import Journal
from kzoo.search.progress import Progress
from kzoo.search.trial import Curve, Trials

_HOPELESS = 5  # a search whose first trials all failed gives up after this many
_LOOK = 0.5  # seconds between two looks at the trials under way


class Study:
    """One search.

    Attributes:
        folder: The search's folder.
        recipe: The parent.
        objective: The figure to improve, and its `direction`.
        limit: How many trials there are at most; None without such a limit.
        trials: What is known of each trial by its number: values, and once it has ended status, score, epochs, seconds.
        pending: Proposals that were under way when an earlier process ended.
    """

    def __init__(self, folder: Path, recipe: recipes.Recipe):
        self.folder, self.recipe = folder, recipe
        self.objective, self.direction = goal(recipe)
        self.trials: dict[int, dict] = {}
        self.pending: dict[int, Proposal] = {}
        self.journal = Journal(folder)
        self.engine = open_engine(recipe.search, recipe.train.epochs, self.objective, self.direction)
        self.limit = trial_limit(recipe.search, self.engine)
        # Workers ask about hopeless trials while the main thread asks and tells.
        self._engine_lock = threading.Lock()
        self._began, self._before = time.monotonic(), 0.0

    @property
    def best(self) -> dict | None:
        """The best completed trial, the first of equals."""
        done = [t for t in self.trials.values() if t.get("status") == "completed"]
        sign = 1 if self.direction == "max" else -1
        return max(done, key=lambda t: sign * t["score"], default=None)

    @property
    def hopeless(self) -> bool:
        """Whether enough trials have ended, and all of them failed."""
        ended = sum("status" in t for t in self.trials.values())
        return self.best is None and ended >= min(_HOPELESS, self.limit or _HOPELESS)

    @property
    def hours(self) -> float:
        """Time that processes have searched here, all together."""
        return (self._before + time.monotonic() - self._began) / 3600

    @property
    def searched(self) -> float:
        """Hours until the last trial started or ended: what the search took, without what came after it."""
        return max((e.get("clock", 0.0) for e in self.journal.events), default=0.0) / 3600

    @property
    def may_start(self) -> bool:
        """Whether the budget allows another trial."""
        hours = self.recipe.search.max_hours
        return (self.limit is None or len(self.trials) < self.limit) and (hours is None or self.hours < hours)

    def play_back(self) -> None:
        """Bring a new engine to where the journal ends; `pending` are then the trials that were under way."""
        for event in self.journal.events:
            self._remember(event)
        self._before = self.searched * 3600
        if self.hopeless:
            # Whoever comes back after that has mended what made every trial fail.
            console.say("no trial has succeeded so far: starting them again")
            self.journal.clear()
            self.trials = {}
            board.clear(self.folder)
        for event in self.journal.events:
            if event["event"] == "start":
                self.pending[event["trial"]] = self.engine.ask(event["raw"])
            else:
                known = {f.name: event[f.name] for f in dataclasses.fields(Outcome) if f.name in event}
                self.engine.tell(event["trial"], Outcome(**{**known, "curve": tuple(known.get("curve", ()))}))
                del self.pending[event["trial"]]
        if self.trials:
            # A kill may have come between the journal and the table.
            Progress.write_table(self)
            console.say(f"going on after {len(self.trials) - len(self.pending)} trials: {self.folder}")

    def next(self) -> Proposal | None:
        """The next trial to run, journalled; None where there is none now."""
        if self.pending:
            return self.pending.pop(min(self.pending))
        if not self.may_start:
            return None
        with self._engine_lock:
            proposal = self.engine.ask()
        if proposal is not None:
            self._note(event="start", trial=proposal.number, values=proposal.values, raw=proposal.raw)
        return proposal

    def end(self, number: int, outcome: Outcome, where: str = "") -> None:
        """Journal how a trial ended, and let the engine learn from it; `where` is a worker's host and folder."""
        facts = {**dataclasses.asdict(outcome), "curve": [float(f"{v:.6g}") for v in outcome.curve]}
        self._note(event="end", trial=number, **facts, **({"where": where} if where else {}))
        with self._engine_lock:
            self.engine.tell(number, outcome)

    def looks_hopeless(self, number: int, curve: Curve) -> bool:
        """Whether to end a trial under way."""
        with self._engine_lock:
            return self.engine.looks_hopeless(number, curve)

    def check(self) -> None:
        """See that some trial succeeded.

        Raises:
            WorkError: None did.
        """
        if self.best is None:
            last = next((t for t in reversed(self.trials.values()) if "reason" in t), {"reason": "none could start"})
            where = last.get("where", self.folder)
            raise WorkError(f"no trial succeeded; the last: {last['reason']} (logs: {where}/trials/*/log.txt)")

    def _note(self, **event) -> None:
        self.journal.note({**event, "clock": round(self.hours * 3600, 1)})
        self._remember(event)
        Progress.write_table(self)

    def _remember(self, event: dict) -> None:
        facts = {k: v for k, v in event.items() if k not in ("event", "trial", "raw", "clock", "curve")}
        self.trials.setdefault(event["trial"], {"number": event["trial"]}).update(facts)


def goal(recipe: recipes.Recipe) -> tuple[str, str]:
    """The figure to improve, and whether to its ``max`` or ``min``."""
    import_keras()
    from kzoo.tasks.callbacks import higher_is_better

    task = importlib.import_module(f"kzoo.tasks.{recipe.task}.task").Task
    objective = recipe.search.objective or recipe.train.monitor or task.default_monitor
    return objective, recipe.search.direction or ("max" if higher_is_better(objective) else "min")


class Cancelled(Exception):
    """The search ends, and so do its trials; the next one goes on with them."""


def work(study: Study, shares: list[Share]) -> None:
    """Run trials, as many at once as there are shares, until there were enough or the space is exhausted.

    Raises:
        WorkError: The first trials all failed, or none succeeded.
    """
    trials = Trials(study.folder, study.recipe, study.objective, study.direction)
    progress = Progress(study, len(shares))
    # What a kill kept from being written.
    board.write(study)
    cancelled = threading.Event()
    free, running = list(shares), {}

    def run(proposal: Proposal, share: Share) -> Outcome:
        def watch(curve: Curve) -> bool:
            if cancelled.is_set():
                raise Cancelled
            progress.curves[proposal.number] = curve
            if not all(map(math.isfinite, curve)):
                return True  # what has diverged need not go on
            return bool(curve) and study.looks_hopeless(proposal.number, curve)

        return trials.run(proposal, share, watch)

    with progress, concurrent.futures.ThreadPoolExecutor(len(shares)) as pool:
        try:
            while True:
                while free and not study.hopeless and (proposal := study.next()):
                    share = free.pop(0)
                    running[pool.submit(run, proposal, share)] = (proposal, share)
                    progress.begin(proposal)
                if not running:
                    break
                done, _ = concurrent.futures.wait(running, _LOOK, concurrent.futures.FIRST_COMPLETED)
                # Of those that ended together the first proposed comes first, for the order counts.
                for future in sorted(done, key=lambda f: running[f][0].number):
                    proposal, share = running[future]
                    study.end(proposal.number, future.result())
                    progress.end(proposal)
                    board.write(study)
                    del running[future]
                    free.append(share)
                progress.show()
        finally:
            cancelled.set()
    if study.may_start and not study.hopeless:
        console.say(f"the space is exhausted after {len(study.trials)} trials")
    study.check()
