"""Test-time augmentation: several views of each image, whose logits are averaged."""

from collections.abc import Callable, Iterator

import numpy as np


def average(network: Callable[[np.ndarray], np.ndarray], images: np.ndarray, mode: str, plain: np.ndarray):
    """Logits averaged over views (Jordan 2024, arXiv 2404.00498, section 3.5).

    Args:
        network: From images to logits.
        images: float32 (batch, height, width, channels).
        mode: ``mirror`` for each image and its mirror image; ``mirror_translate`` for both, and with the same weight
            both shifted by one pixel up and left, and down and right.
        plain: The logits of the images as they are, which are not computed again.

    Returns:
        (batch, classes).
    """
    mirrored = (plain + network(images[:, :, ::-1])) / 2
    if mode == "mirror":
        return mirrored
    shifted = [network(view) for moved in _diagonal(images) for view in (moved, moved[:, :, ::-1])]
    return (mirrored + np.mean(shifted, axis=0)) / 2


def _diagonal(images: np.ndarray) -> Iterator[np.ndarray]:
    """The images shifted by one pixel along the diagonal, each way; what comes in mirrors the border."""
    height, width = images.shape[1:3]
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    for start in (0, 2):
        yield padded[:, start : start + height, start : start + width]
