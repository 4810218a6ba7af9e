"""Run and text to what the text costs."""

from pathlib import Path
from typing import Any

from kzoo.errors import RequestError
from kzoo.evaluate import open_run
from kzoo.files import write_text
from kzoo.run import Run


def score(
    run: Run | str | Path, text: str | Path, *, html: str | Path | None = None, errors: str = "strict"
) -> dict[str, Any]:
    """Judge any text with a run's chosen language model.

    Args:
        run: A run of a text recipe, or its folder.
        text: A file's path, or a text source such as ``folder:PATH``.
        html: A page to write, on which each character of the text's beginning is coloured by its cost.
        errors: What bytes that are no UTF-8 do: ``strict`` for an error, ``replace`` for U+FFFD.

    Returns:
        ``loss`` (nats for a token), ``bits`` and ``perplexity`` with carried state, ``window_loss`` and ``window_bits``
        in windows of ``window`` tokens from an empty state, ``tokens`` that were judged, ``unknown`` ones that were
        not, ``characters`` and ``bits_per_character``.

    Raises:
        RequestError: The run is of another task or has no weights, or the text cannot be read or is no UTF-8.
    """
    run = Run(run)
    if run.card["task"] != "text":
        raise RequestError(f"{run.path} is a run of {run.card['model']}, which judges no text")
    model, answers = open_run(run)
    figures, shown, bits = answers.judge(model, str(text), errors=errors)
    if html is not None:
        from kzoo.tasks.text import surprise

        write_text(Path(html), surprise.page(str(text), shown, bits, figures))
    return figures
