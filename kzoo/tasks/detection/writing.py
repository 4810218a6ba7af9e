"""Detections as files: pictures and videos with boxes, COCO's results, KITTI's labels."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np

from kzoo.data.detection import videos
from kzoo.errors import RequestError, nearest
from kzoo.files import write_text
from kzoo.tasks.detection import drawing

FORMATS = ("pictures", "coco", "kitti")
# What a label line of KITTI says of truncation, occlusion, angle, and of size, place and turn in space, if not known.
_UNKNOWN_BEFORE, _UNKNOWN_BEHIND = "-1 -1 -10", "-1 -1 -1 -1000 -1000 -1000 -10"


def chosen(formats) -> tuple[str, ...]:
    """The formats of a tuple or a comma-separated text.

    Raises:
        RequestError: There is no such format.
    """
    names = tuple(f.strip() for f in formats.split(",")) if isinstance(formats, str) else tuple(formats)
    for name in names:
        if name not in FORMATS:
            raise RequestError(f"there is no format {name!r} of detections{nearest(name, FORMATS)}")
    return names


class Writer:
    """Writes answers below a folder as they come; a context that finishes what is open.

    ``pictures`` are PNG files, of a video one MP4. ``coco`` is ``detections.json``, a list as COCO's servers take it: a
    picture's ``image_id`` is its file's name without suffix, as a number if it is one, and ``category_id`` counts the
    run's labels from 1. ``kitti`` is a text file for each picture in ``labels``. Frames are called like their video,
    with their number behind.
    """

    def __init__(self, folder: Path, formats: tuple[str, ...], labels: list[str]):
        self.folder, self.formats, self.labels = folder, formats, labels
        self.taken: set[str] = set()
        self.rows: list[dict[str, Any]] = []
        self.video: videos.Writer | None = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        self._finish_video()
        if kind is None and "coco" in self.formats:
            self._text(self.folder / "detections.json", json.dumps(self.rows, indent=1) + "\n")

    def add(self, answer: dict[str, Any], pixels: np.ndarray) -> None:
        """Write an answer; what was drawn is added to it as ``picture``."""
        stem = self._free(Path(answer["input"] or "picture").stem, answer.get("frame"))
        if "pictures" in self.formats:
            answer["picture"] = str(self._draw(answer, pixels, stem))
        if "coco" in self.formats:
            self.rows += [self._coco(thing, stem) for thing in answer["objects"]]
        if "kitti" in self.formats:
            lines = [_kitti(thing) for thing in answer["objects"]]
            self._text(self.folder / "labels" / f"{stem}.txt", "".join(f"{line}\n" for line in lines))

    def _draw(self, answer, pixels, stem: str) -> Path:
        drawn = drawing.with_boxes(pixels, answer["objects"], self.labels)
        if "frame" not in answer:
            self._finish_video()
            return drawing.write(self.folder / f"{stem}.png", drawn)
        if answer["frame"] == 0:
            self._finish_video()
            self.path = self.folder / f"{stem.removesuffix('_000000')}.mp4"
            self.video = videos.Writer(self.path, videos.rate(answer["input"]))
        self.video.add(drawn)
        return self.path

    def _coco(self, thing: dict[str, Any], stem: str) -> dict[str, Any]:
        x1, y1, x2, y2 = thing["box"]
        return {
            "image_id": int(stem) if stem.isdecimal() else stem,
            "category_id": 1 + self.labels.index(thing["label"]),
            "bbox": [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)],
            "score": round(thing["score"], 5),
        }

    def _finish_video(self) -> None:
        if self.video is not None:
            self.video.close()
            self.video = None

    def _free(self, stem: str, frame: int | None) -> str:
        """A name that none of this call's pictures has; pictures of two folders may share theirs."""
        behind = "" if frame is None else f"_{frame:06d}"
        names = itertools.chain([stem], (f"{stem}-{i}" for i in itertools.count(2)))
        name = next(n + behind for n in names if n + behind not in self.taken)
        self.taken.add(name)
        return name

    def _text(self, path: Path, text: str) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, text)
        except OSError as error:
            raise RequestError(f"{path} cannot be written: {error.strerror or error}") from None


def _kitti(thing: dict[str, Any]) -> str:
    """A line of 16 columns: type, truncation, occlusion, angle, box, size, place, turn, score."""
    box = " ".join(f"{v:.2f}" for v in thing["box"])
    # Columns are parted by spaces.
    name = thing["label"].replace(" ", "_")
    return f"{name} {_UNKNOWN_BEFORE} {box} {_UNKNOWN_BEHIND} {thing['score']:.4f}"
