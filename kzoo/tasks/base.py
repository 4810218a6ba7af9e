"""The two contracts that every task fulfils."""

import abc
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kzoo import registry
from kzoo.build import build
from kzoo.data.spacing import spaced
from kzoo.errors import RequestError
from kzoo.ranges import Range
from kzoo.recipe import Recipe
from kzoo.run import Run
from kzoo.tasks import freezing


class Task(abc.ABC):
    """A recipe at work with its data: train and judge.

    Attributes:
        recipe: The recipe; after `open`, with everything resolved that follows from the data.
        monitor: The figure that chooses the best checkpoint.
    """

    monitor: str

    def __init__(self, recipe: Recipe):
        self.recipe = recipe
        self.monitor = recipe.train.monitor or self.default_monitor

    default_monitor: str

    def look_ahead(self) -> None:
        """Raise, before the data are opened, what would keep a fresh training from starting and needs none of them.

        Raises:
            RequestError: Such as weights that cannot be had.
        """
        return

    @abc.abstractmethod
    def open(self) -> None:
        """Open the data, check that they fit the recipe, and resolve what follows from them.

        Raises:
            RequestError: The data are missing, unreadable or do not fit.
        """

    @abc.abstractmethod
    def card(self) -> dict[str, Any]:
        """What inference needs beside the weights: ``task``, ``model``, ``arguments``, labels, preprocessing."""

    @abc.abstractmethod
    def samples(self) -> dict[str, np.ndarray]:
        """A few raw inputs, as a user would send them, with which exports are verified later."""

    def calibration(self, count: int) -> dict[str, np.ndarray]:
        """Raw inputs in the form of `samples`, at most so many, of the training part if there are parts.

        Ranges of activations are taken from them.
        """
        samples = self.samples()
        places = spaced(min(map(len, samples.values())), count)
        return {name: values[places] for name, values in samples.items()}

    @abc.abstractmethod
    def fit(self, model, run: Run, until: int | None = None) -> dict[str, Any] | None:
        """Train the model, from the run's last checkpoint if there is one; leave the chosen weights in the model.

        Args:
            model: The built model.
            run: Where checkpoints and figures go.
            until: Stop after this many epochs in all, to be gone on with later; None for the whole recipe.

        Returns:
            Figures of the training for ``summary.json``; None for a training that is to be gone on with.
        """

    @property
    @abc.abstractmethod
    def splits(self) -> set[str]:
        """Parts of the opened data that `evaluate` takes."""

    @abc.abstractmethod
    def evaluate(self, model, split: str, **options) -> dict[str, Any]:
        """Judge the model on a part of the data.

        Args:
            model: The network with its weights.
            split: The part.
            **options: The task's own; control takes ``episodes``.

        Returns:
            Figures; plain numbers at the top are the headline, lists and mappings the detail.
        """

    def draw(self, figures: dict[str, Any], folder: Path) -> list[Path]:
        """Draw pictures of figures that `evaluate` returned."""
        return []

    def notes(self) -> list[str]:
        """What the user should know after the work, such as files that were skipped."""
        return []

    def inspect(self, out: Path, pictures: int, *, plain: bool) -> dict[str, Any]:
        """Draw training examples on one sheet; see `kzoo.survey.inspect`.

        Raises:
            RequestError: The task shows none.
        """
        raise RequestError(f"the task {self.recipe.task} draws no sheet of its data")

    def anchors(self, split: str, shapes: int) -> dict[str, Any]:
        """What default boxes can match; see `kzoo.survey.anchors`.

        Raises:
            RequestError: The task has no default boxes.
        """
        raise RequestError(f"the task {self.recipe.task} has no default boxes")

    def takes(self, argument: str) -> bool:
        """Whether the model's builder has an argument of this name."""
        return any(p.name == argument for p in registry.find(self.recipe.model).parameters)

    def common_card(self, **own: Any) -> dict[str, Any]:
        """The keys of all cards, around those of a task."""
        lasting = registry.lasting(self.recipe.model, self.recipe.arguments)
        return {
            "task": self.recipe.task,
            "model": self.recipe.model,
            "arguments": {k: v for k, v in lasting.items() if k != "dtype_policy"},
            **own,
            "recipe": self.recipe.name,
            "recipe_digest": self.recipe.digest(),
        }

    def check_validation(self, parts: Container[str]) -> None:
        """Refuse data without a validation part where the training asks for one.

        Raises:
            RequestError: It does, and there is none.
        """
        train = self.recipe.train
        if "validation" not in parts and (train.early_stopping or train.monitor):
            raise RequestError("train.early_stopping and train.monitor need a validation part: set data.validation")

    def build(self, dtype_policy: str | None = None):
        """Build the recipe's model for weights that are known, under another dtype policy if its builder takes one."""
        arguments = registry.lasting(self.recipe.model, self.recipe.arguments)
        if dtype_policy is not None and self.takes("dtype_policy"):
            arguments["dtype_policy"] = dtype_policy
        return build(self.recipe.model, **arguments)

    def start(self, *, fresh: bool = True):
        """Build the recipe's model as its training begins: with ``train.weights``, and ``train.freeze`` frozen.

        What ``train.unfreeze`` says is done by `kzoo.tasks.fitting`.

        Args:
            fresh: Whether the weights matter; they do not where a checkpoint will be restored.

        Raises:
            RequestError: The weights do not fit, or no layer is frozen or unfrozen by a pattern, or none is left to
                train.
        """
        model = self.initial(fresh)
        freezing.freeze(model, self.recipe.train.freeze)
        freezing.check(model, getattr(self.recipe.train, "unfreeze", ()))
        return model

    def initial(self, fresh: bool):
        """The model before anything is frozen; see `start`."""
        if not fresh:
            return self.build()
        return build(self.recipe.model, weights=self.recipe.train.weights, **self.recipe.arguments)


@dataclass(frozen=True)
class Signature:
    """One door of an exported artefact.

    Attributes:
        function: Takes and returns tensors; outputs as a mapping from names.
        inputs: ``tf.TensorSpec`` of each input, in order, named.
        example: Raw inputs for verification, by input name.
    """

    function: Any
    inputs: tuple
    example: dict[str, np.ndarray]


class Answers(abc.ABC):
    """A trained model's answers to raw inputs, without data or recipe.

    Attributes:
        card: The content of ``model.json``.
    """

    def __init__(self, card: dict[str, Any]):
        self.card = card

    @abc.abstractmethod
    def answer(self, model, inputs: list, **options) -> list[dict[str, Any]]:
        """One answer for each input, in order.

        Raises:
            RequestError: An input cannot be read.
        """

    @abc.abstractmethod
    def table(self, answers: list[dict[str, Any]]) -> list[list[str]]:
        """What `answer` gave as a table's rows of cells, the header first."""

    def explain(self, model, inputs: list, folder: Path, **options) -> list[dict[str, Any]]:
        """One answer for each input, with a picture of what decided it.

        Args:
            folder: Where the pictures go.

        Raises:
            RequestError: An input cannot be read, or the task has no explanation.
        """
        raise RequestError(f"the task {self.card['task']} has nothing to explain its answers with")

    def play(self, model, **options) -> list[dict[str, Any]]:
        """Whole episodes of a policy; see `kzoo.play.play`.

        Raises:
            RequestError: The task is none that plays.
        """
        raise RequestError(f"a {self.card['task']} run has nothing to play; `kzoo play` takes control runs")

    @abc.abstractmethod
    def blank(self) -> dict[str, np.ndarray]:
        """A raw sample without content, in the form of a run's samples, for what has none, such as an artefact."""

    @property
    def ranges(self) -> Mapping[str, Range]:
        """What inputs of the doors take, by their names, where that is less than their types hold."""
        return {}

    @abc.abstractmethod
    def network_inputs(self, samples: dict[str, np.ndarray]) -> np.ndarray:
        """Raw samples as the plain network takes them."""

    @abc.abstractmethod
    def signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, Signature]:
        """Doors of the exported SavedModel: the plain network and raw input to finished answer."""

    @abc.abstractmethod
    def numeric_signatures(self, model, samples: dict[str, np.ndarray]) -> dict[str, Signature]:
        """Doors of runtimes that know neither strings nor encoded images: raw numbers to finished numbers.

        They are made of operators that ONNX and LiteRT have.
        """
