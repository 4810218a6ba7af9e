"""Keras Tuner as an engine that only proposes and learns: it prints nothing and writes nothing.

Call `kzoo.quiet.import_keras` before importing this module. Only Keras Tuner's oracles are used. Their own files are
rewritten in place, so that a kill can leave them unreadable, and lack part of the state (the grid's position, the
generator of the Bayesian search); `kzoo.search` keeps a journal instead and plays it back to a new engine.
"""

import random
from typing import Any

import keras_tuner
import threadpoolctl
from keras_tuner import oracles
from keras_tuner.engine import hyperparameters
from keras_tuner.src.engine.conditions import Parent

from kzoo import sections
from kzoo.errors import WorkError
from kzoo.search import pruning
from kzoo.search.engine import Outcome, Proposal
from kzoo.search.space import Space, conditions_of, is_integer, levels, resolve

_FAILED = "FAILED"  # keras_tuner's own words for a trial's status
_COMPLETED = "COMPLETED"
_RUNNING = "RUNNING"


class KerasTuner:
    """See `kzoo.search.engine.Engine`; Keras Tuner numbers trials from 0."""

    def __init__(self, settings: sections.Search, epochs: int, objective: str, direction: str):
        """See `kzoo.search.engine.open_engine`."""
        self.settings, self.space, self.objective = settings, settings.space, objective
        self._sign, self._curves = 1 if direction == "max" else -1, []
        space = keras_tuner.HyperParameters()
        for key, parameter in self.space.items():
            if not parameter.is_fixed:
                _declare(space, self.space, key)
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
        """See `kzoo.search.engine.Engine.ask`."""
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
        parent = raw.get("tuner/trial_id")
        return Proposal(
            number=int(trial.trial_id) + 1,
            values=resolve(self.space, raw),
            raw=raw,
            until=raw.get("tuner/epochs"),
            parent=None if parent is None else int(parent) + 1,
        )

    def tell(self, number: int, outcome: Outcome) -> None:
        """See `kzoo.search.engine.Engine.tell`; a trial that was pruned has its best value so far."""
        trial = self._oracle.trials[f"{number - 1:04d}"]
        if outcome.score is not None:
            self._oracle.update_trial(trial.trial_id, {self.objective: outcome.score})
        trial.status = _FAILED if outcome.score is None else _COMPLETED
        self._oracle.end_trial(trial)
        if outcome.status == "completed":
            self._curves.append(outcome.curve)

    def looks_hopeless(self, number: int, curve: tuple[float, ...]) -> bool:
        """See `kzoo.search.engine.Engine.looks_hopeless`."""
        if self.settings.pruner == "none":
            return False
        return pruning.looks_hopeless(curve, self._curves, self._sign, self.settings.min_epochs)


def _declare(space, keys: Space, key: str) -> None:
    """Add a key to Keras Tuner's space.

    What has levels becomes a choice of their indices: keras_tuner's own choices cannot hold lists, nulls or mixed
    types, and its own steps lose the last value of a range to rounding.
    """
    parameter = keys[key]
    conditions = [
        Parent(other, [levels(keys[other]).index(value) for value in values])
        for other, values in conditions_of(keys, key).items()
    ]
    known = levels(parameter)
    if known is not None:
        found = hyperparameters.Choice(key, list(range(len(known))), conditions=conditions)
    else:
        kind = hyperparameters.Int if is_integer(parameter) else hyperparameters.Float
        sampling = "log" if parameter.log else "linear"
        found = kind(key, parameter.min, parameter.max, sampling=sampling, conditions=conditions)
    # Not by keras_tuner's scopes, in which a condition cannot stand beside another one or depend on it.
    space.merge([found])


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

    def _vectorize_trials(self):
        """Points and scores; the process is fitted to what is known before it guesses the scores of trials under way.

        Keras Tuner guesses by the process of the proposal before, so that a proposal would depend on which trials were
        under way then, and a search that is played back would go on differently.
        """
        under_way = self.ongoing_trials
        if under_way:
            everything = self.trials
            names = {t.trial_id for t in under_way.values()}
            self.trials = {k: t for k, t in everything.items() if k not in names}
            self.ongoing_trials = {}
            try:
                self.gpr.fit(*super()._vectorize_trials())
            finally:
                self.trials, self.ongoing_trials = everything, under_way
        return super()._vectorize_trials()


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
