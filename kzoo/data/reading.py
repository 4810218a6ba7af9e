"""How images are read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """How images are read.

    Attributes:
        size: Height and width in pixels; None keeps the stored size, which must then be the same for all.
        channels: 1 or 3; None keeps what is stored.
        fit: ``stretch``, ``crop`` or ``pad``: how another aspect ratio is brought to `size`.
        cache: ``auto``, ``memory``, ``disk`` or ``none``.
        on_corrupt: ``skip`` or ``stop``.
        data_dir: Folder of prepared TFDS data.
        download: Whether a source may fetch what is missing.
    """

    size: tuple[int, int] | None = None
    channels: int | None = None
    fit: str = "stretch"
    cache: str = "auto"
    on_corrupt: str = "skip"
    data_dir: str | None = None
    download: bool = False
