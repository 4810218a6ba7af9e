"""What a network's card (``model.json``) has to say, whoever wrote it.

A card says what inference needs beside the weights: ``task``, ``model``, ``arguments``, and what the task's answers
take, which ``kzoo.tasks.<task>.settings.Card`` types. Values that are not used for answers, such as the recipe's name,
may be there too.
"""

import importlib
import json
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, PositiveFloat, PositiveInt

from kzoo import registry
from kzoo.errors import RequestError

Side = Annotated[int, Field(ge=1, le=1 << 14)]  # pixels


class Part(pydantic.BaseModel):
    """A part of a card: strict types; keys that nothing asks for may be there."""

    model_config = pydantic.ConfigDict(strict=True, extra="ignore", frozen=True, allow_inf_nan=False)


class Card(Part):
    """The keys that all cards have; tasks subclass it and add theirs."""

    task: str
    model: str
    arguments: dict[str, Any]


class Preprocessing(Part):
    """How a picture becomes what a network takes."""

    image_size: tuple[Side, Side]
    channels: PositiveInt
    fit: Literal["stretch", "crop", "pad"]
    mean: tuple[float, ...]
    std: tuple[PositiveFloat, ...]

    @pydantic.model_validator(mode="after")
    def _for_each_channel(self):
        if not {len(self.mean), len(self.std)} <= {1, self.channels}:
            raise ValueError(f"mean and std need a number for each of {self.channels} channels")
        return self


class Labelled(Card):
    """The card of a network whose outputs stand for labels."""

    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    preprocessing: Preprocessing

    @pydantic.model_validator(mode="after")
    def _for_each_class(self):
        classes = self.arguments.get("num_classes", len(self.labels))
        if classes != len(self.labels):
            raise ValueError(f"there are {len(self.labels)} labels, and the network has {classes} classes")
        return self


def check_card(card: Any, origin: str) -> dict[str, Any]:
    """Check a card that was read from a file.

    Args:
        card: Its content.
        origin: What to call it in errors.

    Returns:
        The card, without arguments that only say what a new network starts from.

    Raises:
        RequestError: It names no network of its task, has an argument that its builder does not take, or lacks what the
            task's answers need.
    """
    _validate(Card, card, origin)
    try:
        known = registry.find(card["model"])
        if known.task != card["task"]:
            raise RequestError(f"{card['model']} is no model of {card['task']}")
        arguments = registry.lasting(card["model"], card["arguments"])
        registry.check_arguments(card["model"], arguments)
    except RequestError as error:
        raise RequestError(f"{origin} names no network that can be built: {error}") from None
    _validate(importlib.import_module(f"kzoo.tasks.{known.task}.settings").Card, card, origin)
    return {**card, "arguments": arguments}


def _validate(kind: type[Card], card: Any, origin: str) -> None:
    try:
        kind.model_validate_json(json.dumps(card))
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"])) or "the whole"
        reason = problem["msg"].removeprefix("Value error, ")
        raise RequestError(f"{origin} is damaged: {key}: {reason[:1].lower()}{reason[1:]}") from None
    except RecursionError:
        raise RequestError(f"{origin} is damaged: it is nested too deeply") from None
