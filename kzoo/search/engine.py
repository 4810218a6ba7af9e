"""What a search needs of the library that proposes its trials."""

import dataclasses
from typing import Any, Protocol

from kzoo import sections
from kzoo.errors import RequestError
from kzoo.quiet import import_keras

_TRIALS = 20  # where neither the recipe nor the tuner says how many


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What to try next.

    Attributes:
        number: The trial's number, from 1.
        values: Dotted recipe keys and their values, in the order in which they override the recipe.
        raw: The same as the engine keeps it; `Engine.ask` takes it to play a journal back.
        until: Epochs to train in all; None for the recipe's own number.
        parent: Number of the trial whose run is gone on with; None for one that starts from scratch.
    """

    number: int
    values: dict[str, Any]
    raw: dict[str, Any]
    until: int | None = None
    parent: int | None = None


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a trial ended.

    Attributes:
        status: ``completed``, ``pruned`` (ended because it looked hopeless) or ``failed``.
        score: Best value of the objective, median over the seeds; None for a trial that failed.
        epochs: Number of its epochs.
        seconds: How long it took.
        reason: What was wrong with a trial that failed.
        curve: Value of the objective after each epoch; empty where the trial had several seeds.
    """

    status: str
    score: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    reason: str = ""
    curve: tuple[float, ...] = ()


class Engine(Protocol):
    """Proposes values for the keys of a search space, and learns from the outcomes.

    Given the same seed and the same calls in the same order it proposes the same values.

    Attributes:
        sweep: Trials of one full sweep of hyperband; None for the other tuners.
    """

    sweep: int | None

    def ask(self, recorded: dict[str, Any] | None = None) -> Proposal | None:
        """Propose a trial.

        Args:
            recorded: Raw values of the same trial in an earlier process; they are taken in place of new ones, because
                sums may come out differently in their last digits on another machine.

        Returns:
            The proposal. None where there is nothing to propose before a trial under way has ended or, when none is
            under way, because the space is exhausted.

        Raises:
            WorkError: The journal goes on where the engine has nothing more to propose.
        """

    def tell(self, number: int, outcome: Outcome) -> None:
        """Report how a proposal ended."""

    def looks_hopeless(self, number: int, curve: tuple[float, ...]) -> bool:
        """Whether to end a trial under way, whose objective had these values after its epochs so far."""


def trial_limit(settings: sections.Search, engine: Engine) -> int | None:
    """How many trials a search has at most; None where only `max_hours` or the space's size end it."""
    if settings.max_trials is not None or settings.max_hours is not None:
        return settings.max_trials
    if settings.tuner == "grid":
        return None
    return engine.sweep or _TRIALS


def open_engine(settings: sections.Search, epochs: int, objective: str, direction: str) -> Engine:
    """Set an engine up for a search.

    Args:
        settings: The recipe's ``search`` section.
        epochs: Epochs of a whole training, the last rung of hyperband.
        objective: The figure to improve.
        direction: ``max`` or ``min``.

    Raises:
        RequestError: The engine's library is not installed.
    """
    if settings.engine == "optuna":
        try:
            from kzoo.search.optuna_engine import Optuna
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            raise RequestError("search.engine optuna needs the package optuna: pip install 'kzoo[optuna]'") from None
        return Optuna(settings, epochs, objective, direction)
    import_keras()
    from kzoo.search.keras_engine import KerasTuner

    return KerasTuner(settings, epochs, objective, direction)
