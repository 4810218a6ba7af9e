"""A search's folder: whose it is, and the journal of what the engine was asked and told, in order."""

import datetime
import json
import secrets
from pathlib import Path

from kzoo import console
from kzoo import recipe as recipes
from kzoo.errors import RequestError
from kzoo.files import new_folder, read_json, write_json, write_text
from kzoo.machine import environment, now

_BUDGET = {"max_trials", "max_hours"}
# What is read of an event beside what it is and whose.
_FACTS = {"start": {"values", "raw"}, "end": {"status", "score", "epochs", "seconds", "reason"}}


def open_folder(recipe: recipes.Recipe, goal: tuple[str, str], out: Path | None, resume: bool | None) -> Path:
    """Make the search's folder, or see that it holds a search of the same recipe.

    Args:
        recipe: The parent.
        goal: Objective and direction.
        out: The folder; default a new one, or with `resume` the newest of this recipe.
        resume: Whether there must be a search to go on with; None where there may be one.

    Raises:
        RequestError: The folder is taken, cannot be made, or there is no search to go on with.
    """
    asked = request(recipe)
    folder = out or (_newest(recipe, asked) if resume else base(recipe) / f"{datetime.datetime.now():%Y%m%d-%H%M%S}")
    try:
        if out or resume:
            folder.mkdir(parents=True, exist_ok=True)
        else:
            folder = new_folder(folder)
    except OSError as error:
        raise RequestError(f"the search folder {folder} cannot be made: {error.strerror}") from None
    found = read_json(folder / "search.json")
    if found is None:
        if resume:
            raise RequestError(f"{folder} holds no search to go on with")
        # A kill before the first file was whole leaves only hidden ones.
        if any(not p.name.startswith(".") for p in folder.iterdir()):
            raise RequestError(f"{folder} is not empty and holds no search; name another --out")
        known = {"id": secrets.token_hex(4), "objective": goal[0], "direction": goal[1]}
        known |= {"created": now(), "environment": environment()}
        write_json(folder / "search.json", {**asked, **known})
        console.say(f"{recipe.search.tuner} search over {', '.join(recipe.search.space)}: {folder}")
    elif resume is False:
        raise RequestError(f"{folder} holds a search already; name another --out")
    elif not _same(found, asked):
        raise RequestError(f"{folder} holds a search of another recipe or space; name another --out")
    return folder


class Journal:
    """The events of a search, the only state that it needs to go on.

    Attributes:
        events: ``start`` and ``end`` of each trial, as they came.
    """

    def __init__(self, folder: Path):
        """Read a search's journal, if it has one yet.

        Raises:
            RequestError: A line is damaged, or one before it is missing.
        """
        self.path = folder / "journal.jsonl"
        self.events: list[dict] = []
        known: dict[int, str] = {}
        lines = self.path.read_bytes().splitlines() if self.path.is_file() else []
        for number, line in enumerate(lines, 1):
            try:
                event = json.loads(line)
                trial, kind = event["trial"], event["event"]
                fits = trial == len(known) + 1 if kind == "start" else known[trial] == "start" and kind == "end"
                if not fits or not event.keys() >= _FACTS[kind]:
                    raise ValueError
            except (ValueError, KeyError, TypeError):
                raise RequestError(
                    f"{self.path} is damaged from line {number} on; without it and those after it the search goes on "
                    "from there"
                ) from None
            known[trial] = kind
            self.events.append(event)

    def note(self, event: dict) -> None:
        """Add an event; it is on the disk when this returns."""
        self.events.append(event)
        write_text(self.path, "".join(json.dumps(e) + "\n" for e in self.events))

    def clear(self) -> None:
        """Forget all events, on the disk with the next one."""
        self.events.clear()


def request(recipe: recipes.Recipe) -> dict:
    """What makes a search the same: the budget may change, so that a finished one can be given more."""
    settings = recipe.search.model_dump(mode="json", exclude=_BUDGET, exclude_defaults=True)
    return {"parent": recipe.name, "digest": recipe.digest(), "search": settings}


def _same(found: dict, request: dict) -> bool:
    return isinstance(found, dict) and all(found.get(k) == request[k] for k in ("digest", "search"))


def _newest(recipe: recipes.Recipe, request: dict) -> Path:
    for path in sorted(base(recipe).glob("*/search.json"), key=lambda p: p.parent.name, reverse=True):
        if _same(read_json(path, {}), request):
            return path.parent
    raise RequestError(f"{base(recipe)} holds no search of this recipe and space to go on with; name its --out")


def base(recipe: recipes.Recipe) -> Path:
    """Where searches of a recipe are by default."""
    return Path("searches") / recipe.model / recipe.short_name
