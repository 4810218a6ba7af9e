"""Frames of video files, read and written by ffmpeg through imageio, which the extra ``video`` brings."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from kzoo.errors import RequestError

SUFFIXES = {".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}
_PLUGIN = "FFMPEG"


def is_video(given) -> bool:
    """Whether an input is the path of a video."""
    return isinstance(given, str | Path) and Path(given).suffix.lower() in SUFFIXES


def frames(path: str | Path) -> Iterator[np.ndarray]:
    """Frames of a video, uint8 (height, width, 3), one after the other.

    Raises:
        RequestError: It cannot be read, or imageio is not installed.
    """
    imageio = _imageio(path)
    try:
        yield from imageio.v3.imiter(path, plugin=_PLUGIN)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(path, error) from None


def rate(path: str | Path) -> float:
    """Frames a second of a video.

    Raises:
        RequestError: It cannot be read, or imageio is not installed.
    """
    imageio = _imageio(path)
    try:
        return float(imageio.v3.immeta(path, plugin=_PLUGIN)["fps"])
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise _unreadable(path, error) from None


class Writer:
    """An MP4 file that frames are appended to."""

    def __init__(self, path: Path, fps: float):
        """Open it; its folder is made.

        Raises:
            RequestError: It cannot be written, or imageio is not installed.
        """
        imageio = _imageio(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.stream = imageio.v2.get_writer(path, format=_PLUGIN, fps=fps, macro_block_size=1)
        except OSError as error:
            raise RequestError(f"{path} cannot be written: {error.strerror or error}") from None

    def add(self, frame: np.ndarray) -> None:
        """Append a frame, uint8 (height, width, 3); an odd side grows by a pixel, as the codec wants it."""
        height, width = frame.shape[:2]
        self.stream.append_data(np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), "edge"))

    def close(self) -> None:
        """Finish the file."""
        self.stream.close()


def _imageio(path: str | Path):
    try:
        import imageio
        import imageio.v2
        import imageio.v3
        import imageio_ffmpeg  # noqa: F401
    except ImportError:
        raise RequestError(f"{path} is a video, which takes imageio and ffmpeg: pip install 'kzoo[video]'") from None
    return imageio


def _unreadable(path: str | Path, error: Exception) -> RequestError:
    reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return RequestError(f"{path} is no readable video: {reason}")
