"""Run and prompt to text."""

import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path

from kzoo import console
from kzoo.errors import RequestError
from kzoo.evaluate import open_run
from kzoo.run import Run


def generate(
    run: Run | str | Path, prompt: str | Sequence[str] = "", *, num: int = 1, seed: int | None = None, **options
) -> list[str]:
    """Continue prompts with a run's chosen weights.

    Args:
        run: A run of a text recipe, or its folder.
        prompt: What to continue, or several; an empty one is continued as the beginning of a line is.
        num: Continuations of each prompt.
        seed: Fixes the texts, in [0, 2**31); None for one that is drawn, and said.
        **options: ``length``, tokens to write (500); ``temperature`` (1), ``top_k`` (0), ``top_p`` (1), ``min_p`` (0)
            and ``repetition_penalty`` (1), see `kzoo.tasks.text.sampling.Choice`; ``unknown``, what unknown
            characters of a prompt do: ``error``, ``skip`` or ``keep``.

    Returns:
        The prompts with their continuations, ``num`` for each.

    Raises:
        RequestError: The run is of another task or has no weights, a number is out of its range, or a prompt has
            characters that the model does not know.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt)
    if num < 1:
        raise RequestError(f"num is {num}, and takes at least 1")
    model, answers, seed = _open(run, seed)
    return [a["text"] for a in answers.answer(model, prompts, num=num, seed=seed, **options)]


def stream(run: Run | str | Path, prompt: str = "", *, seed: int | None = None, **options) -> Iterator[str]:
    """The continuation of one prompt piece by piece, as it is written; the same text as that of `generate`.

    Args and errors: see `generate`; what is wrong is raised before the first piece is asked for.
    """
    model, answers, seed = _open(run, seed)
    return answers.stream(model, prompt, seed=seed, **options)


def _open(run: Run | str | Path, seed: int | None):
    """The run's model, what writes with it, and the seed."""
    run = Run(run)
    if run.card["task"] != "text":
        raise RequestError(f"{run.path} is a run of {run.card['model']}, which writes no text")
    if seed is None:
        seed = secrets.randbelow(1 << 31)
        console.say(f"seed {seed}")
    return *open_run(run), seed
