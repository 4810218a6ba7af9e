"""A trained policy in its environment, to watch."""

from pathlib import Path
from typing import Any

from kzoo.evaluate import open_run
from kzoo.run import Run


def play(
    run: Run | str | Path,
    *,
    episodes: int = 5,
    video: str | Path | None = None,
    render: str | None = None,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Let a control run's policy play.

    Args:
        run: A run or its folder.
        episodes: Whole episodes to play.
        video: A ``.gif`` or ``.mp4`` file to record all episodes into.
        render: A render mode of the environment, such as ``human`` for a window.
        seed: Of the episodes.

    Returns:
        For each episode its ``episode`` number, ``return`` and ``length``.

    Raises:
        RequestError: The run is none of the task control, it has no weights, or the environment cannot be rendered so.
    """
    run = Run(run)
    model, answers = open_run(run)
    return answers.play(model, episodes=episodes, video=video and Path(video), render=render, seed=seed)
