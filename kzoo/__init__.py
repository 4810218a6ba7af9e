"""kzoo: a Keras 3 / TensorFlow model zoo.

The public names are imported on first use, so that ``import kzoo`` and listing the zoo stay instant: TensorFlow is
imported only when a model is built or loaded.
"""

import importlib
import sys
import types

from kzoo._version import __version__

_HOMES = {
    "ExportReport": "kzoo.export",
    "ModelInfo": "kzoo.registry",
    "Recipe": "kzoo.recipe",
    "RequestError": "kzoo.errors",
    "Run": "kzoo.run",
    "WorkError": "kzoo.errors",
    "anchors": "kzoo.survey",
    "bench": "kzoo.bench",
    "build": "kzoo.build",
    "evaluate": "kzoo.evaluate",
    "explain": "kzoo.evaluate",
    "export": "kzoo.export",
    "features": "kzoo.build",
    "generate": "kzoo.generate",
    "info": "kzoo.registry",
    "inspect": "kzoo.survey",
    "list_models": "kzoo.registry",
    "list_recipes": "kzoo.configs",
    "list_weights": "kzoo.pretrained",
    "load": "kzoo.build",
    "load_recipe": "kzoo.recipe",
    "play": "kzoo.play",
    "predict": "kzoo.evaluate",
    "publish": "kzoo.export",
    "register": "kzoo.registry",
    "report": "kzoo.report",
    "resume": "kzoo.train",
    "score": "kzoo.score",
    "search": "kzoo.search",
    "serve": "kzoo.serve",
    "stream": "kzoo.generate",
    "train": "kzoo.train",
    "verify": "kzoo.export",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    """Import a public name from its home module on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'kzoo' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


class _Package(types.ModuleType):
    """Keeps ``kzoo.train`` the verb after something imported the module of the same name."""

    def __setattr__(self, name, value):
        if isinstance(value, types.ModuleType) and _HOMES.get(name) == value.__name__:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
