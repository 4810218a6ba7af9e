"""A recipe's data before any training: what the network will see, and what its default boxes can match."""

from pathlib import Path
from typing import Any

from kzoo import console
from kzoo import recipe as recipes
from kzoo.errors import RequestError
from kzoo.quiet import import_keras


def inspect(
    recipe: recipes.Recipe | str | Path, *, out: str | Path | None = None, pictures: int = 12, plain: bool = False
) -> dict[str, Any]:
    """Draw training examples as the network will see them, with their labels, on one sheet.

    Args:
        recipe: A recipe, or its name or path.
        out: The PNG to write; ``inspect.png`` in the working directory by default.
        pictures: How many.
        plain: Whether they are shown without augmentation.

    Returns:
        ``sheet``, the PNG's path; ``classes``, by part the number of objects of each class; ``notes``, what is wrong
        with the data.

    Raises:
        RequestError: The recipe or the data are wrong, or the task shows no examples.
    """
    if pictures < 1:
        raise RequestError(f"pictures is {pictures}, and takes at least 1")
    task = _opened(recipe)
    found = task.inspect(Path(out or "inspect.png"), pictures, plain=plain)
    notes = task.notes()
    for note in notes:
        console.say(note)
    return {**found, "notes": notes}


def anchors(recipe: recipes.Recipe | str | Path, *, split: str = "train", shapes: int = 0) -> dict[str, Any]:
    """Report how many objects of a detection recipe's data its default boxes can match.

    Args:
        recipe: A recipe, or its name or path.
        split: The part of the data.
        shapes: Fit so many box shapes to the objects by k-means under 1 - IoU; 0 for none.

    Returns:
        ``boxes``, the number of default boxes; ``rows``, by class and size; with `shapes` also ``shapes`` (width and
        height in pixels of the network's input, ``scale`` and ``ratio`` as the model's arguments take them) and
        ``shapes_iou``, the mean IoU of the objects with their best shape.

    Raises:
        RequestError: The recipe or the data are wrong, or the task is none with default boxes.
    """
    return _opened(recipe).anchors(split, shapes)


def _opened(recipe):
    if not isinstance(recipe, recipes.Recipe):
        recipe = recipes.load(recipe)
    recipe.check()
    import_keras()
    from kzoo import tasks

    task = tasks.open_task(recipe)
    task.open()
    return task
