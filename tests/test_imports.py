"""The directions of imports, and what stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kzoo

PACKAGE = Path(kzoo.__file__).parent
VERBS = {"train", "evaluate", "generate", "play", "score", "search", "export", "bench", "report", "serve", "survey"}
FOUNDATION = {
    "errors",
    "_version",
    "configs",
    "quiet",
    "console",
    "registry",
    "recipe",
    "sections",
    "files",
    "machine",
    "run",
    "weights",
    "allocator",
    "boxes",
    "bounded",
    "build",
    "cards",
    "ranges",
}

# What each room may import of kzoo; anything that is not listed may import nothing of it.
ALLOWED = {
    "cli": VERBS | FOUNDATION | {"pretrained", "printing"},
    **{
        verb: {
            "tasks",
            "evaluate",
            "process",
            "report",
            "artefacts",
            "serving",
            "versions",
            "vetting",
            "export",
            "runtimes",
            "comparison",
        }
        | FOUNDATION
        for verb in VERBS
    },
    "search": {"search", "tasks", "process", "report"} | FOUNDATION,
    "artefacts": {"runtimes", "vetting"} | FOUNDATION,
    "serving": {"serving", "tasks", "evaluate", "artefacts", "versions"} | FOUNDATION,
    "vetting": {"vetting", "runtimes", "files", "errors"},
    "process": {"configs", "recipe", "run", "files", "errors"},
    "tasks": {"tasks", "data", "pretrained"} | FOUNDATION,
    "data": {"data", "errors", "console", "boxes", "cache"},
    "models": {"models", "registry", "boxes"},
    "build": {"bounded", "cards", "registry", "weights", "pretrained", "run", "files", "errors"},
    "bounded": {"errors"},
    "ranges": {"errors"},
    "cards": {"registry", "errors"},
    "pretrained": {"recipe", "sections", "configs", "cache", "console", "files", "errors"},
    "weights": {"vetting", "run", "files", "console", "errors"},
    "run": {"recipe", "cards", "configs", "files", "machine", "errors"},
    "files": {"errors"},
    "machine": {"_version"},
    "recipe": {"sections", "schema", "registry", "configs", "errors"},
    "schema": {"sections", "errors"},
    "cache": {"errors"},
    "sections": set(),
    "versions": {"errors"},
    "printing": {"files", "errors"},
    "registry": {"configs", "errors", "quiet"},
    "configs": {"errors"},
    "__main__": {"cli"},
    "__init__": {"_version"},
}


def rooms_imported_by(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module != "kzoo" else [f"kzoo.{alias.name}" for alias in node.names]
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("kzoo.")}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    place = path.relative_to(PACKAGE)
    room = place.parts[0].removesuffix(".py")
    extra = rooms_imported_by(path) - ALLOWED.get(room, set())
    assert not extra, f"kzoo/{place} must not import kzoo.{sorted(extra)[0]}"


def test_the_walk_sees_imports_inside_functions(tmp_path):
    source = tmp_path / "x.py"
    source.write_text(
        "from kzoo import errors\ndef f():\n    from kzoo.tasks import base\n    import kzoo.data.images\n"
    )
    assert rooms_imported_by(source) == {"errors", "tasks", "data"}


@pytest.mark.parametrize("arguments", [["list"], ["info", "cnn_classifier"], ["--help"], ["train", "no/such"]])
def test_light_verbs_import_neither_tensorflow_nor_keras(arguments):
    program = (
        "import sys\nfrom kzoo.cli import main\n"
        f"try: main({arguments!r})\nexcept SystemExit: pass\n"
        "heavy = {'tensorflow', 'keras', 'jax', 'torch', 'matplotlib', 'sklearn'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_importing_the_package_imports_almost_nothing():
    program = "import sys, kzoo; kzoo.list_models(); print({'numpy', 'pydantic', 'keras'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_public_names_exist_and_a_verb_stays_a_verb_after_its_module_was_imported():
    import kzoo.train as verb  # the import system binds the module to the package's attribute of that name

    assert callable(verb) and callable(kzoo.train)
    for name in kzoo.__all__:
        if name != "search":
            assert getattr(kzoo, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = kzoo.nonsense


def test_no_banner_when_keras_is_imported():
    program = "from kzoo.quiet import import_keras; k = import_keras(); k.ops.zeros((2, 2)) + 1"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
