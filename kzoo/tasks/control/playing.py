"""Episodes to watch: in a window, or recorded as GIF or MP4."""

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.errors import RequestError
from kzoo.files import atomic
from kzoo.tasks.control import acting, environments
from kzoo.tasks.control.settings import Data

_WATCHED = 5  # part of the key of an episode's seed; training and judging have others
_WRITERS = {".gif": "pillow", ".mp4": "ffmpeg"}
_FAST = 25  # frames a second


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
        # SDL must not look for a screen; with its driver "dummy" highway-env would draw nothing.
        os.environ.setdefault("SDL_VIDEODRIVER", "offscreen")
    lanes = environments.Lanes(lambda: environments.make(data, mode), 1, (seed, _WATCHED), data.stack)
    try:
        environment = lanes.environments[0]
        if mode is not None and mode not in environment.metadata.get("render_modes", ()):
            known = ", ".join(environment.metadata.get("render_modes", ())) or "none"
            raise RequestError(f"{data.env} has no render mode {mode!r}; it has {known}")
        if video is None:
            return _episodes(lanes, model, episodes, lambda: None)
        with atomic(video) as temporary:
            film = _Film(environment, temporary)
            try:
                found = _episodes(lanes, model, episodes, film.shoot)
            except BaseException:
                # ffmpeg waits for more frames until it is told that there are none.
                with contextlib.suppress(Exception):
                    film.finish()
                raise
            film.finish()
            return found
    finally:
        lanes.close()


def _episodes(lanes: environments.Lanes, model, episodes: int, shoot: Callable[[], None]) -> list[dict[str, Any]]:
    values, found = acting.values_of(model), []
    for number in range(1, episodes + 1):
        if number > 1:
            lanes.reset(0)
        total, length, over = 0.0, 0, False
        while not over:
            shoot()
            reward, terminated, truncated = lanes.step(0, int(values(lanes.observations).argmax(-1)[0]))
            total, length, over = total + reward, length + 1, terminated or truncated
        shoot()
        found.append({"episode": number, "return": total, "length": length})
    return found


def _check_writer(video: Path) -> None:
    from matplotlib import animation, rcParams

    suffix = video.suffix.lower()
    if suffix not in _WRITERS:
        raise RequestError(f"a video is a {' or '.join(_WRITERS)} file, not {video.name}")
    if suffix == ".mp4" and not shutil.which("ffmpeg"):
        with contextlib.suppress(ImportError):
            import imageio_ffmpeg

            rcParams["animation.ffmpeg_path"] = imageio_ffmpeg.get_ffmpeg_exe()
    if not animation.writers.is_available(_WRITERS[suffix]):
        raise RequestError(
            f"{video.name} needs the program ffmpeg: install it, or pip install 'kzoo[video]', or take a .gif"
        )


class _Film:
    """What an environment shows, written as it comes."""

    def __init__(self, environment, path: Path):
        """Nothing is written before the first frame.

        Args:
            environment: One whose render mode is ``rgb_array``.
            path: A ``.gif`` or ``.mp4`` file.
        """
        self.environment, self.path, self.frames, self.writer = environment, path, 0, None
        if hasattr(environment.unwrapped, "set_record_video_wrapper"):
            # highway-env acts once a second and shows what happens in between to an object with `_capture_frame`.
            environment.unwrapped.set_record_video_wrapper(self)
        rate = environment.metadata.get("render_fps", 30)
        # Of a fast one half the frames are enough to see, and files stay small.
        self.every = 2 if rate >= _FAST else 1
        self.rate = max(1, rate // self.every)

    def shoot(self) -> None:
        """Take what the environment shows now."""
        if self.frames % self.every == 0:
            picture = self._picture()
            if self.writer is None:
                self._open(picture)
            self.image.set_data(picture)
            self.writer.grab_frame()
        self.frames += 1

    _capture_frame = shoot

    def finish(self) -> None:
        """Close the file, if there is one."""
        if self.writer is not None:
            self.writer.finish()

    def _picture(self) -> np.ndarray:
        import gymnasium

        try:
            return np.asarray(self.environment.render(), np.uint8)
        except gymnasium.error.DependencyNotInstalled as error:
            name, reason = self.environment.spec.id, " ".join(str(error).split())
            raise RequestError(f"{name} cannot be drawn: {reason}") from None

    def _open(self, picture: np.ndarray) -> None:
        from matplotlib import animation
        from matplotlib.figure import Figure

        height, width = picture.shape[:2]
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        self.image = axes.imshow(picture)
        self.writer = animation.writers[_WRITERS[self.path.suffix.lower()]](fps=self.rate)
        self.writer.setup(figure, str(self.path), 100)
