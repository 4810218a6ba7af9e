"""Optuna as an engine: asked and told in memory, nothing printed or written; `kzoo.search` keeps the journal.

A sampler is made anew for each question, seeded by the search's seed and the trial's number. What it proposes is then a
function of these and of the trials so far, and a journal that is played back need not ask again.
"""

import random
import warnings
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from kzoo import sections
from kzoo.search.engine import Outcome, Proposal
from kzoo.search.space import combinations, decode, is_active, is_integer, is_ordered, levels, resolve

_NAME = "kzoo"  # Optuna's hyperband puts trials into brackets by the study's name
_STATES = {"completed": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Optuna:
    """See `kzoo.search.engine.Engine`; Optuna numbers trials from 0."""

    sweep = None

    def __init__(self, settings: sections.Search, epochs: int, objective: str, direction: str):
        """See `kzoo.search.engine.open_engine`."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.settings, self.space, self.size = settings, settings.space, combinations(settings.space)
        self._study = optuna.create_study(
            direction="maximize" if direction == "max" else "minimize",
            pruner=_pruner(settings, epochs),
            study_name=_NAME,
            sampler=optuna.samplers.RandomSampler(),
        )

    def ask(self, recorded: dict[str, Any] | None = None) -> Proposal | None:
        """See `kzoo.search.engine.Engine.ask`."""
        number = len(self._study.get_trials(deepcopy=False))
        if recorded is not None:
            self._study.add_trial(self._recorded(recorded))
            return Proposal(number + 1, resolve(self.space, recorded), recorded)
        if self.settings.tuner == "grid" and number >= self.size:
            return None
        with warnings.catch_warnings():
            # The brute-force sampler and groups of keys that are active together are "experimental" since 2023.
            warnings.simplefilter("ignore")
            self._study.sampler = self._sampler(number)
            trial = self._study.ask()
            active: dict[str, Any] = {}
            for key, parameter in self.space.items():
                if is_active(parameter, active):
                    raw = 0 if parameter.is_fixed else _suggest(trial, key, parameter)
                    active[key] = decode(parameter, raw)
        # What the sampler does with a result that it did not propose, such as ending the study, is not wanted.
        self._study.sampler = optuna.samplers.RandomSampler()
        return Proposal(number + 1, resolve(self.space, trial.params), dict(trial.params))

    def tell(self, number: int, outcome: Outcome) -> None:
        """See `kzoo.search.engine.Engine.tell`."""
        self._report(number, outcome.curve)
        state = _STATES[outcome.status]
        score = outcome.score if state == TrialState.COMPLETE else None
        self._study.tell(number - 1, score, state)

    def looks_hopeless(self, number: int, curve: tuple[float, ...]) -> bool:
        """See `kzoo.search.engine.Engine.looks_hopeless`."""
        return self.settings.pruner != "none" and self._report(number, curve)

    def _report(self, number: int, curve: tuple[float, ...]) -> bool:
        """Report the epochs that are new; whether the pruner would end the trial after one of them."""
        trial = self._trial(number)
        known = trial.intermediate_values
        live = optuna.trial.Trial(self._study, trial._trial_id)
        hopeless = False
        for epoch, value in enumerate(curve, 1):
            if epoch not in known and not hopeless:
                live.report(value, epoch)
                # The pruners keep notes of their own in the trial whenever they are asked.
                hopeless = live.should_prune()
        return hopeless

    def _trial(self, number: int) -> FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number - 1]

    def _recorded(self, raw: dict[str, Any]) -> FrozenTrial:
        """A trial of an earlier process, under way until it is told."""
        distributions = {key: _distribution(self.space[key]) for key in raw}
        return create_trial(state=TrialState.RUNNING, params=raw, distributions=distributions)

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        seed = random.Random(f"{self.settings.seed}/{number}").randrange(2**32)
        if self.settings.tuner == "tpe":
            conditional = any(parameter.when for parameter in self.space.values())
            return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=conditional, constant_liar=True)
        if self.settings.tuner == "grid":
            return optuna.samplers.BruteForceSampler(seed=seed)
        return optuna.samplers.RandomSampler(seed=seed)


def _suggest(trial: optuna.Trial, key: str, parameter: sections.SearchParameter) -> Any:
    kind = _distribution(parameter)
    if isinstance(kind, CategoricalDistribution):
        return trial.suggest_categorical(key, kind.choices)
    suggest = trial.suggest_int if isinstance(kind, IntDistribution) else trial.suggest_float
    return suggest(key, kind.low, kind.high, log=kind.log)


def _distribution(parameter: sections.SearchParameter) -> BaseDistribution:
    """Levels become their indices, in order where the levels are numbers."""
    known = levels(parameter)
    if known is None:
        kind = IntDistribution if is_integer(parameter) else FloatDistribution
        return kind(parameter.min, parameter.max, log=parameter.log)
    if is_ordered(parameter):
        return IntDistribution(0, len(known) - 1)
    return CategoricalDistribution(tuple(range(len(known))))


def _pruner(settings: sections.Search, epochs: int) -> optuna.pruners.BasePruner:
    least = min(settings.min_epochs, epochs)
    if settings.pruner == "median":
        return optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=least)
    if settings.pruner == "successive_halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=least, reduction_factor=settings.factor)
    if settings.pruner == "hyperband":
        return optuna.pruners.HyperbandPruner(least, epochs, settings.factor)
    return optuna.pruners.NopPruner()
