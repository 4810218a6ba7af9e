"""Where the shipped recipes lie, and the YAML dialect in which recipes are written."""

import re
from pathlib import Path

import yaml

from kzoo.errors import RequestError

# In a wheel the recipes lie inside the package; in a checkout or an editable install they lie beside it.
_PACKAGE = Path(__file__).resolve().parent
FOLDER = next((p for p in (_PACKAGE / "zoo_configs", _PACKAGE.parent / "zoo_configs") if p.is_dir()), _PACKAGE)


class _Loader(yaml.SafeLoader):
    """YAML 1.2's core schema: ``1e-3`` is a number, ``no`` and ``on`` are words, a key given twice is an error."""

    def construct_mapping(self, node, deep=False):
        seen = {}
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool | None):
                raise yaml.constructor.ConstructorError(None, None, f"a key is a plain word, not {key!r}", None)
            if key in seen:
                line = key_node.start_mark.line + 1
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} stands twice (line {line})", None)
            seen[key] = True
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith((":null", ":merge"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF")
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9]+$"), "-+0123456789")
# Without this a leading zero would still mean octal.
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(loader.construct_scalar(node)))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan)$"),
    "-+.0123456789",
)


class _Dumper(yaml.SafeDumper):
    """Quotes each string that `parse`, or a reader of YAML 1.1, would take for something else."""


_Dumper.yaml_implicit_resolvers = {
    first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, []) + _Loader.yaml_implicit_resolvers.get(first, [])
    for first in yaml.SafeDumper.yaml_implicit_resolvers | _Loader.yaml_implicit_resolvers
}


def parse(text: str, origin: str):
    """Parse YAML text.

    Args:
        text: The document.
        origin: What to call it in an error.

    Raises:
        RequestError: The text is not valid YAML; the sentence gives the place.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise RequestError(f"{origin}: not valid YAML{place}: {getattr(error, 'problem', None) or error}") from None


def dump(values: dict) -> str:
    """Write plain values as YAML, in the given order, small collections on one line."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def list_recipes(model: str | None = None) -> list[str]:
    """Names of the shipped recipes, ``model/dataset``, sorted; of one model if it is given."""
    return sorted(p.relative_to(FOLDER).with_suffix("").as_posix() for p in FOLDER.glob(f"{model or '*'}/*.yaml"))
