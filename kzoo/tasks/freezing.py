"""Layers that are not trained, and those of them that are trained later."""

import re
from collections.abc import Sequence

from kzoo.errors import RequestError
from kzoo.sections import Unfreeze


def freeze(model, patterns: Sequence[str]) -> None:
    """Take layers out of the training.

    Args:
        model: The built model.
        patterns: The recipe's ``train.freeze``, regular expressions on layers' names.

    Raises:
        RequestError: No layer matches one of the patterns, or none is left to train.
    """
    layers = [layer for layer in model.layers if layer.weights]
    for pattern in patterns:
        chosen = [layer for layer in layers if re.search(pattern, layer.name)]
        if not chosen:
            names = ", ".join(layer.name for layer in layers)
            raise RequestError(f"train.freeze: no layer of {model.name} matches {pattern!r}; its layers are {names}")
        for layer in chosen:
            layer.trainable = False
    if not model.trainable_variables:
        raise RequestError("train.freeze leaves nothing to train")


def check(model, steps: Sequence[Unfreeze]) -> None:
    """Raise where a pattern unfreezes nothing.

    Args:
        model: The model as its training begins.
        steps: The recipe's ``train.unfreeze``.

    Raises:
        RequestError: No frozen layer matches one of the patterns.
    """
    frozen = [layer.name for layer in model.layers if layer.weights and not layer.trainable]
    for step in steps:
        for pattern in step.layers:
            if not any(re.search(pattern, name) for name in frozen):
                have = ", ".join(frozen) or "none; train.freeze says which"
                raise RequestError(
                    f"train.unfreeze: no frozen layer of {model.name} matches {pattern!r}; frozen are {have}"
                )


class Thaw:
    """What is unfrozen when, in one model; a layer follows the first step that names it."""

    def __init__(self, model, steps: Sequence[Unfreeze]):
        """Look which layers the steps name; nothing is unfrozen yet."""
        self.groups, left = [], [layer for layer in model.layers if layer.weights and not layer.trainable]
        for step in steps:
            chosen = [layer for layer in left if any(re.search(p, layer.name) for p in step.layers)]
            left = [layer for layer in left if layer not in chosen]
            self.groups.append((step, chosen))

    @property
    def multipliers(self) -> dict[str, float]:
        """Factors of the learning rate by a regular expression on a variable's path."""
        return {
            f"(^|/)({'|'.join(re.escape(layer.name) for layer in layers)})/": step.factor
            for step, layers in self.groups
            if layers and step.factor != 1
        }

    def variables(self, model) -> list:
        """All variables that are trained at some time, in the model's order."""
        layers = [layer for _, group in self.groups for layer in group]
        for layer in layers:
            layer.trainable = True
        found = list(model.trainable_variables)
        for layer in layers:
            layer.trainable = False
        return found

    def to(self, epoch: int) -> bool:
        """Unfreeze what is trained in an epoch, counted from 0; whether anything changed."""
        due = [layer for step, group in self.groups if step.epoch <= epoch for layer in group if not layer.trainable]
        for layer in due:
            layer.trainable = True
        return bool(due)
