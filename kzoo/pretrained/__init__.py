"""Trained weights by name: ``kzoo.build("cnn_classifier", weights="mnist")``.

An entry is ``<model>/<tag>.yaml`` in this folder: where the file lies (beside it, or at a URL), its SHA-256, the card
of the run that it comes from (arguments, labels, preprocessing), what was measured, and its licence. Entries are
written by ``tools/package_weights.py``, never by hand.
"""

import hashlib
import urllib.error
import urllib.request
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import Field, PositiveInt

from kzoo import cache, configs, console
from kzoo.errors import RequestError, WorkError, nearest
from kzoo.files import atomic, sha256
from kzoo.sections import Settings

FOLDER = Path(__file__).resolve().parent
_PIECE = 1 << 20  # bytes
_TIMEOUT = 10  # seconds without an answer


class Weights(Settings):
    """Trained weights and what is known of them.

    Attributes:
        model: Name of the registered model.
        tag: The weights' name among those of the model.
        file: Name of the file beside the entry; None for one that is fetched.
        url: Where it is fetched from; None for one that is shipped.
        sha256: Hexadecimal SHA-256 of the file, checked on every use.
        size: Bytes of the file.
        card: ``model.json`` of the run: arguments, labels, preprocessing, recipe and its digest.
        metrics: Figures of the test part, the headline first.
        data: What it was trained on, in words.
        licence: Licence of the weights.
    """

    model: str
    tag: str
    file: str | None = None
    url: str | None = None
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    size: PositiveInt
    card: dict[str, Any]
    metrics: dict[str, float | int]
    data: str = ""
    licence: str

    @pydantic.model_validator(mode="after")
    def _one_place(self):
        if (self.file is None) == (self.url is None):
            raise ValueError("takes either file or url")
        return self


def list_weights(model: str = "*") -> list[str]:
    """Names of the known weights, ``model/tag``, sorted; of one model if it is given."""
    return sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.glob(f"{model}/*.yaml"))


def find(model: str, tag: str) -> Weights:
    """The entry of a model's weights.

    Raises:
        RequestError: The model has no weights of that name, or their entry is damaged.
    """
    path = FOLDER / model / f"{tag}.yaml"
    known = [n.partition("/")[2] for n in list_weights(model)]
    if tag not in known:
        hint = nearest(tag, known) if known else "; it has none"
        raise RequestError(f"{model} has no weights {tag!r}, and there is no such file{hint}")
    try:
        return Weights.model_validate({**configs.parse(path.read_text("utf-8"), str(path)), "model": model, "tag": tag})
    except pydantic.ValidationError as error:
        problem = error.errors(include_url=False)[0]
        raise RequestError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from None


def locate(weights: Weights) -> Path:
    """The weights' file, checked; fetched into the cache folder (``KZOO_CACHE``) first if need be.

    Raises:
        RequestError: The file is not there and cannot be fetched; says where it would do by hand.
        WorkError: What was fetched, or lies there, is not what the entry says.
    """
    if weights.file:
        path = FOLDER / weights.model / weights.file
    else:
        name = f"{weights.model}-{weights.tag}-{weights.sha256[:12]}{Path(weights.url).suffix}"
        path = cache.folder("weights") / name
        if not path.is_file():
            _fetch(weights, path)
    if not path.is_file():
        raise RequestError(f"the weights {weights.model}/{weights.tag} should lie at {path}, and do not")
    found = sha256(path)
    if found != weights.sha256:
        raise WorkError(f"{path} is not {weights.model}/{weights.tag}: its SHA-256 is {found}, not {weights.sha256}")
    return path


def _fetch(weights: Weights, path: Path) -> None:
    console.say(f"fetching {weights.url} ({weights.size / 1e6:.1f} MB) to {path}")
    try:
        with urllib.request.urlopen(weights.url, timeout=_TIMEOUT) as answer, atomic(path) as temporary:
            digest, count = hashlib.sha256(), 0
            with open(temporary, "wb") as handle:
                while piece := answer.read(_PIECE):
                    digest.update(piece)
                    count += len(piece)
                    if count > weights.size:
                        break
                    handle.write(piece)
            if digest.hexdigest() != weights.sha256:
                raise WorkError(
                    f"{weights.url} gave {count:,} bytes with the SHA-256 {digest.hexdigest()}, and "
                    f"{weights.model}/{weights.tag} has {weights.size:,} with {weights.sha256}"
                )
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise RequestError(f"{weights.url} cannot be fetched ({reason}); put the file at {path} instead") from None
