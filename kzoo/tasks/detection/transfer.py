"""Weights of another network of the zoo, whose layers have the same names, for a detector's backbone."""

from pathlib import Path

import numpy as np

from kzoo import console, pretrained
from kzoo.build import is_tag, load
from kzoo.cards import check_card
from kzoo.errors import RequestError
from kzoo.files import read_json
from kzoo.run import Run


def card_of(weights: str) -> dict | None:
    """The card beside a run folder's or an artefact's weights; None where there is none."""
    path = Path(weights)
    if path.is_dir():
        return Run(path).card
    place = path.parent / "model.json"
    card = read_json(place) if path.is_file() else None
    return check_card(card, str(place)) if card else None


def is_foreign(weights: str, model: str) -> bool:
    """Whether weights are those of another model than this."""
    if is_tag(model, weights):
        return False
    card = card_of(weights)
    return card is not None and card["model"] != model


def preprocessing(weights: str, model: str) -> dict | None:
    """How the network that the weights are of takes pictures; None where it is not known."""
    card = pretrained.find(model, weights).card if is_tag(model, weights) else card_of(weights)
    return (card or {}).get("preprocessing")


def carry(weights: str, model) -> list[str]:
    """Copy into a model what layers of the same name and shapes in another network hold.

    Args:
        weights: A run folder or an artefact of the zoo, of another model.
        model: The built detector.

    Returns:
        Names of the layers that were filled.

    Raises:
        RequestError: No layer fits.
    """
    theirs = load(weights)
    known = {layer.name: layer for layer in theirs.layers if layer.weights}
    filled = []
    for layer in model.layers:
        other = known.get(layer.name)
        if other is None or [tuple(w.shape) for w in layer.weights] != [tuple(w.shape) for w in other.weights]:
            continue
        layer.set_weights([np.asarray(w) for w in other.weights])
        filled.append(layer.name)
    if not filled:
        raise RequestError(
            f"train.weights: {weights} is a {theirs.name}, of which no layer has the name and shape of one of "
            f"{model.name}; a cnn_classifier with the filters, blocks and normalisation of its stages would do"
        )
    console.say(f"carried over {len(filled)} layers of {weights}: {filled[0]} to {filled[-1]}")
    return filled
