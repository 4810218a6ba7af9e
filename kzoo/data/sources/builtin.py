"""Data that come with the installation: scikit-learn's digits."""

import numpy as np

from kzoo.data.images import Collection, Images, fitted
from kzoo.data.reading import Reading
from kzoo.errors import RequestError, nearest

TEST_SHARE = 0.2


def open_source(name: str, reading: Reading) -> Collection:
    """Open ``builtin:digits``: 1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI optdigits).

    The source has no test part of its own. A fifth of each class is set aside as one, always the same.
    """
    if name != "digits":
        raise RequestError(f"there is no built-in data set {name!r}{nearest(name, ['digits'])}")
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    # Sixteen grey levels are spread over the 256 of other images.
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    train, test = train_test_split(np.arange(len(pixels)), test_size=TEST_SHARE, stratify=digits.target, random_state=0)
    return Collection(
        {
            "train": Images(fitted(pixels[train], reading), digits.target[train]),
            "test": Images(fitted(pixels[test], reading), digits.target[test]),
        },
        tuple(str(d) for d in range(10)),
    )
