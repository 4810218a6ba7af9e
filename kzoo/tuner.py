"""Keras Tuner as an engine that only proposes and learns: it prints nothing and writes nothing.

Call `kzoo.quiet.import_keras` before importing this module. Only Keras Tuner's oracles are used. Their own files are
rewritten in place, so that a kill can leave them unreadable, and lack part of the state (the grid's position, the
generator of the Bayesian search); `kzoo.search` keeps a journal instead and plays it back to a new `Tuner`.
"""

import dataclasses
import math
import random
from typing import Any

import keras_tuner
import threadpoolctl
from keras_tuner import oracles

from kzoo import recipe as recipes
from kzoo.errors import WorkError

_FAILED = "FAILED"  # keras_tuner's own words for a trial's status
_COMPLETED = "COMPLETED"
_RUNNING = "RUNNING"


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What to try next.

    Attributes:
        number: The trial's number, from 1.
        values: Dotted recipe keys and their values.
        raw: The same as the oracle keeps it; `Tuner.ask` takes it to play a journal back.
        until: Epochs to train in all; None for the recipe's own number.
        parent: Number of the trial whose run is gone on with; None for one that starts from scratch.
    """

    number: int
    values: dict[str, Any]
    raw: dict[str, Any]
    until: int | None
    parent: int | None


class Tuner:
    """Proposes values for the keys of a search space, and learns from the scores.

    Given the same seed and the same calls in the same order it proposes the same values.
    """

    def __init__(self, settings: recipes.Search, epochs: int, objective: str, direction: str):
        """Set the search up.

        Args:
            settings: The recipe's ``search`` section.
            epochs: Epochs of a whole training, the last rung of hyperband.
            objective: The figure to improve.
            direction: ``max`` or ``min``.
        """
        self.space, self.objective = settings.space, objective
        space = keras_tuner.HyperParameters()
        for key, parameter in self.space.items():
            _declare(space, key, parameter)
        common = {
            "objective": keras_tuner.Objective(objective, direction),
            "hyperparameters": space,
            # keras_tuner takes 0 for "no seed", and draws from neighbouring seeds for neighbouring trials.
            "seed": random.Random(settings.seed).randint(1, 2**31),
            # Whether to give up is for the search to decide.
            "max_consecutive_failed_trials": 10**9,
        }
        if settings.tuner == "hyperband":
            self._oracle = _Hyperband(settings.min_epochs, max_epochs=epochs, factor=settings.factor, **common)
        else:
            kind = {"random": _Random, "bayesian": _Bayesian, "grid": _Grid}[settings.tuner]
            # The search counts the trials, so that a finished one can be given more.
            self._oracle = kind(**common)
            self._oracle.max_trials = None
        self._oracle.verbose = 0

    @property
    def sweep(self) -> int | None:
        """Trials of one full sweep of hyperband; None for the other tuners."""
        return self._oracle.sweep if isinstance(self._oracle, _Hyperband) else None

    def ask(self, recorded: dict[str, Any] | None = None) -> Proposal | None:
        """Propose a trial.

        Args:
            recorded: Raw values of the same trial in an earlier process. They are taken in place of the oracle's own,
                because a Gaussian process may come out differently in its last digits on another machine.

        Returns:
            The proposal; None when the space is exhausted.

        Raises:
            WorkError: The journal goes on where this keras_tuner has nothing more to propose.
        """
        # Each trial is asked for under a name of its own: a second question is no repetition of the first.
        # One thread, because the Gaussian process is too small for more: with several it took ten times as long.
        self._oracle.recorded = recorded
        with threadpoolctl.threadpool_limits(1):
            trial = self._oracle.create_trial(f"trial{len(self._oracle.trials)}")
        if trial.status != _RUNNING:
            if recorded is not None:
                raise WorkError("the search's journal holds trials that this keras-tuner does not propose")
            return None
        if recorded is not None:
            trial.hyperparameters.values = dict(recorded)
        raw = dict(trial.hyperparameters.values)
        values = {key: _decode(parameter, raw[key]) for key, parameter in self.space.items()}
        parent = raw.get("tuner/trial_id")
        return Proposal(
            number=int(trial.trial_id) + 1,
            values=values,
            raw=raw,
            until=raw.get("tuner/epochs"),
            parent=None if parent is None else int(parent) + 1,
        )

    def tell(self, number: int, score: float | None) -> None:
        """Report the score of a proposal, or None for a trial that failed."""
        trial = self._oracle.trials[f"{number - 1:04d}"]
        if score is not None:
            self._oracle.update_trial(trial.trial_id, {self.objective: score})
        trial.status = _FAILED if score is None else _COMPLETED
        self._oracle.end_trial(trial)


def levels(parameter: recipes.SearchParameter) -> list | None:
    """The values of choices or of a stepped range, in order; None for a range without steps.

    The steps of a logarithmic range are factors.
    """
    if parameter.choices is not None:
        return list(parameter.choices)
    low, high, step = parameter.min, parameter.max, parameter.step
    if step is None:
        return None
    # A millionth of a step is allowed for rounding: five steps of 0.1 reach 0.5.
    if parameter.log:
        count = int(math.log(high / low) / math.log(step) + 1e-6) + 1
        found = [low * step**i for i in range(count)]
    else:
        count = int((high - low) / step + 1e-6) + 1
        found = [low + step * i for i in range(count)]
    return found if is_integer(parameter) else [_rounded(v) for v in found]


def is_integer(parameter: recipes.SearchParameter) -> bool:
    """Whether a range is one of whole numbers: its ends and its step are."""
    return all(isinstance(v, int) for v in (parameter.min, parameter.max, parameter.step) if v is not None)


def combinations(space: dict[str, recipes.SearchParameter]) -> int | None:
    """Number of different points of a space; None where a range is continuous."""
    total = 1
    for parameter in space.values():
        known = levels(parameter)
        if known is None and not is_integer(parameter):
            return None
        total *= len(known) if known is not None else parameter.max - parameter.min + 1
    return total


def _declare(space, key: str, parameter: recipes.SearchParameter) -> None:
    """Add a key to Keras Tuner's space.

    What has levels becomes a choice of their indices: keras_tuner's own choices cannot hold lists, nulls or mixed
    types, and its own steps lose the last value of a range to rounding.
    """
    known = levels(parameter)
    if known is not None:
        space.Choice(key, list(range(len(known))))
        return
    kind = space.Int if is_integer(parameter) else space.Float
    kind(key, parameter.min, parameter.max, sampling="log" if parameter.log else "linear")


def _decode(parameter: recipes.SearchParameter, raw) -> Any:
    known = levels(parameter)
    if known is not None:
        return known[int(raw)]
    return int(raw) if is_integer(parameter) else min(max(_rounded(raw), parameter.min), parameter.max)


def _rounded(value: float) -> float:
    """Six significant digits are enough to search by, and can be read."""
    return float(f"{value:.6g}")


class _Unwritten:
    """An oracle that keeps everything in memory; `recorded` holds the values of a trial that is played back."""

    recorded: dict[str, Any] | None = None

    def save(self):
        """Keep off the disk."""

    def _save_trial(self, trial):
        """Keep off the disk."""


class _Random(_Unwritten, oracles.RandomSearchOracle):
    """Independent random points."""


class _Grid(_Unwritten, oracles.GridSearchOracle):
    """Every point in order; a range without steps is visited at its start and at ten points."""


class _Bayesian(_Unwritten, oracles.BayesianOptimizationOracle):
    """Gaussian process with upper confidence bound, after three random points for each key."""

    def __init__(self, **arguments):
        super().__init__(num_initial_points=3 * len(arguments["hyperparameters"].space), **arguments)

    def populate_space(self, trial_id):
        """Propose values; random ones where the process would repeat a point, as it does once it is sure of itself."""
        done = sum(t.status == _COMPLETED for t in self.trials.values())
        if self.recorded is not None and done >= self.num_initial_points:
            # A proposal takes seconds of computing. Played back, it only moves the generator on as the proposal did.
            self._random_state.uniform(size=(50, len(self._nonfixed_space())))
            return {"status": _RUNNING, "values": dict(self.recorded)}
        response = super().populate_space(trial_id)
        if response.get("values") and self._duplicate(response["values"]):
            return self._random_populate_space()
        return response


class _Hyperband(_Unwritten, oracles.HyperbandOracle):
    """Successive halving in sweeps of several brackets, again and again until the search has had its trials."""

    def __init__(self, min_epochs: int, **arguments):
        super().__init__(hyperband_iterations=None, **arguments)
        # keras_tuner fixes the first rung at one epoch; the brackets follow from it.
        self.min_epochs = min_epochs
        self._current_bracket = self._get_num_brackets() - 1
        self._brackets = []
        self._start_new_bracket()

    @property
    def sweep(self) -> int:
        """Trials in a sweep over all brackets, each rung counted as a trial."""
        return sum(self._get_size(b, rung) for b in range(self._get_num_brackets()) for rung in range(b + 1))

    def end_trial(self, trial):
        """Take a result; a trial that failed at the first rung makes room for another.

        Otherwise a few failures would leave the bracket with too few trials to promote any.
        """
        super().end_trial(trial)
        if trial.status == _FAILED:
            for bracket in self._brackets:
                bracket["rounds"][0] = [t for t in bracket["rounds"][0] if t["id"] != trial.trial_id]
