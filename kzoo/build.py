"""Names and files to models."""

import re
from pathlib import Path

from kzoo import bounded, pretrained, registry, weights
from kzoo.cards import check_card
from kzoo.errors import RequestError
from kzoo.files import read_json
from kzoo.run import Run

# `build` has an argument of that name.
_load_into = weights.load_into


def build(name: str, *, weights: str | Path | None = None, **arguments):
    """Build a model by its name.

    Args:
        name: A name from `kzoo.list_models`.
        weights: The tag of trained weights (``mnist``; see `kzoo.list_weights`), whose network's arguments are then the
            defaults; or a run folder, or a ``.keras``, ``.h5``, ``.weights.h5`` or checkpoint file of the same network;
            None for random initial weights. Where only the last layers differ in shape, because the classes do, these
            start anew and are named.
        **arguments: The builder's own arguments; see `kzoo.info`.

    Returns:
        An uncompiled ``keras.Model`` whose inputs and outputs are named.

    Raises:
        RequestError: Unknown name, unknown or ill-typed argument, or weights that do not fit.
    """
    arguments = with_arguments_of(name, weights, arguments)
    if is_tag(name, weights):
        weights = pretrained.locate(pretrained.find(name, weights))
    model = _new(name, arguments)
    if weights is not None:
        _load_into(model, weights, new_head=True)
    return model


def with_arguments_of(name: str, weights: str | Path | None, arguments: dict) -> dict:
    """The arguments that a network with trained weights is built with: the weights' own where they are a tag.

    Raises:
        RequestError: Unknown model, or unknown tag.
    """
    registry.find(name)
    own = pretrained.find(name, weights).card["arguments"] if is_tag(name, weights) else {}
    return {**own, **arguments}


def rebuild(card: dict, weights: str | Path):
    """The network of a run's card (``model.json``) with its weights, all of which must fit.

    Raises:
        RequestError: The card names no model of the zoo, or the weights are not those of its network.
    """
    model = skeleton(card, weights)
    _load_into(model, weights)
    return model


def quantised(card: dict, weights: str | Path):
    """The network of a card with 8-bit weights, as ``model.int8.keras`` holds them, all of which must fit.

    Raises:
        RequestError: As of `rebuild`.
    """
    model = portable(skeleton(card, weights))
    model.quantize("int8")
    _load_into(model, weights)
    return model


def is_quantised(path: Path) -> bool:
    """Whether a file is a Keras model with 8-bit weights that `kzoo.export` wrote."""
    return path.name.endswith(".int8.keras")


def skeleton(card: dict, source: str | Path):
    """The network of a card with whatever weights, for its shapes and names.

    Args:
        card: The content of a ``model.json``.
        source: The run, file or folder that the card belongs to, which holds the network's weights.

    Raises:
        RequestError: The card names no model of the zoo, or asks for more weights than the source can hold.
    """
    arguments = registry.lasting(card["model"], card["arguments"])
    with bounded.no_larger_than(_size(Path(source)), f"the card of {source}"):
        return _new(card["model"], arguments)


def _size(source: Path) -> int:
    """Bytes that the weights of a run, a file or a folder have at most."""
    if (source / "recipe.yaml").is_file():
        source = Run(source).weights
    files = [source] if source.is_file() else source.rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def is_tag(name: str, weights) -> bool:
    """Whether weights are named by a tag: a known one is even where a file of that name lies about, a path is not."""
    if not isinstance(weights, str) or Path(weights).name != weights:
        return False
    return f"{name}/{weights}" in pretrained.list_weights(name) or not (Path(weights).suffix or Path(weights).exists())


def _new(name: str, arguments: dict):
    arguments = registry.check_arguments(name, arguments)
    builder = registry.builder_of(name)
    try:
        return builder(**arguments)
    except ValueError as error:
        raise RequestError(f"{name}: {error}") from error


def portable(model):
    """The same network, with the same weights, of Keras's own layers, so that its file needs nothing of the zoo.

    A layer of the zoo that does what one of Keras's does has a method ``stock`` that makes that one. Models without
    such layers are returned as they are.
    """
    import keras

    if not any(hasattr(layer, "stock") for layer in model.layers):
        return model

    def clone(layer):
        return layer.stock() if hasattr(layer, "stock") else layer.__class__.from_config(layer.get_config())

    twin = keras.models.clone_model(model, clone_function=clone)
    twin.set_weights(model.get_weights())
    return twin


def features(model):
    """The feature maps at the end of each stage of a convolutional model of the zoo, for transfer.

    Args:
        model: From `build` or `load`; its layers are shared, not copied.

    Returns:
        A ``keras.Model`` with the same input, whose output is a dict from stage (``stem``, ``stage1``, ``group1``, ...;
        ``conv1``, ... where each convolution is one) to its maps, (batch, height, width, channels).

    Raises:
        RequestError: The model has no named stages.
    """
    import keras

    ends = {}
    for layer in model.layers:
        stage = re.match(r"(stem|stage\d+|group\d+)_|conv\d+$", layer.name)
        if stage and len(layer.output.shape) == 4:
            ends[stage[1] or layer.name] = layer.output
    if not ends:
        raise RequestError(f"{model.name} has no stages of feature maps; its layers are no stem_... and stage1_...")
    return keras.Model(model.inputs[0], ends, name=f"{model.name}_features")


def load(path: str | Path):
    """Load a model from a run folder or from an artefact of the zoo, without running code that the file brings.

    Args:
        path: A run folder, or a ``.keras``, ``.h5`` or ``.weights.h5`` file that `kzoo.export` or `kzoo.train` wrote,
            with the ``model.json`` that was written beside it.

    Returns:
        An uncompiled float32 ``keras.Model`` with the weights; of ``model.int8.keras`` one whose weights are 8-bit.

    Raises:
        RequestError: The path is neither, or its arrays do not fit the model that it names.
    """
    path = Path(path)
    if not path.exists():
        raise RequestError(f"there is no file {path}")
    if path.is_dir():
        return rebuild(Run(path).card, path)
    card = read_json(path.parent / "model.json")
    if not card:
        raise RequestError(f"{path} has no model.json beside it, which says what network its weights belong to")
    card = check_card(card, str(path.parent / "model.json"))
    return (quantised if is_quantised(path) else rebuild)(card, path)
