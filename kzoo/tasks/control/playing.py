"""Episodes to watch: in a window, or recorded as GIF or MP4."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.errors import RequestError
from kzoo.run import atomic
from kzoo.tasks.control import acting, environments
from kzoo.tasks.control.settings import Data

_WATCHED = 5  # part of the key of an episode's seed; training and judging have others
_WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}


def play(
    model, data: Data, *, episodes: int, video: Path | None, render: str | None, seed: int
) -> list[dict[str, Any]]:
    """See `kzoo.play.play`."""
    if video is not None and render is not None:
        raise RequestError("an episode is either recorded or rendered: give one of --video and --render")
    if video is not None:
        _check_writer(video)
    mode = "rgb_array" if video is not None else render
    if video is not None:
        # Environments that draw with SDL must not look for a screen.
        os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
    values, frames, found = acting.values_of(model), [], []
    lanes = environments.Lanes(lambda: environments.make(data, mode), 1, (seed, _WATCHED), data.stack)
    try:
        if mode is not None and mode not in lanes.environments[0].metadata.get("render_modes", ()):
            known = ", ".join(lanes.environments[0].metadata.get("render_modes", ())) or "none"
            raise RequestError(f"{data.env} has no render mode {mode!r}; it has {known}")
        for number in range(1, episodes + 1):
            found.append({"episode": number, **_episode(lanes, values, frames if video is not None else None)})
            if number < episodes:
                lanes.reset(0)
        if video is not None:
            rate = lanes.environments[0].metadata.get("render_fps", 30)
            _write(frames, video, rate)
    finally:
        lanes.close()
    return found


def _episode(lanes: environments.Lanes, values, frames: list | None) -> dict[str, Any]:
    total, length, over = 0.0, 0, False
    while not over:
        if frames is not None:
            frames.append(_picture(lanes.environments[0]))
        reward, terminated, truncated = lanes.step(0, int(values(lanes.observations).argmax(-1)[0]))
        total, length, over = total + reward, length + 1, terminated or truncated
    return {"return": total, "length": length}


def _picture(environment) -> np.ndarray:
    import gymnasium

    try:
        return np.asarray(environment.render(), np.uint8)
    except gymnasium.error.DependencyNotInstalled as error:
        raise RequestError(f"{environment.spec.id} cannot be drawn: {' '.join(str(error).split())}") from None


def _check_writer(video: Path) -> None:
    from matplotlib import animation

    if video.suffix.lower() not in _WRITERS:
        raise RequestError(f"a video is a {' or '.join(_WRITERS)} file, not {video.name}")
    if not animation.writers.is_available(_WRITERS[video.suffix.lower()]):
        raise RequestError(f"{video.name} needs the program ffmpeg, which is not there: install it or take a .gif")


def _write(frames: list[np.ndarray], video: Path, rate: int) -> None:
    """Write frames at half the environment's rate, every second one: files stay small."""
    from matplotlib import animation
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    frames = frames[:: 2 if len(frames) > 1 else 1]
    height, width = frames[0].shape[:2]
    figure = Figure(figsize=(width / 100, height / 100), dpi=100)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    image = axes.imshow(frames[0])
    writer = animation.writers[_WRITERS[video.suffix.lower()]](fps=max(1, rate // 2))
    with atomic(video) as temporary, writer.saving(figure, str(temporary), 100):
        for frame in frames:
            image.set_data(frame)
            writer.grab_frame()
