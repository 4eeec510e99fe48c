"""The 1,797 handwritten digits of scikit-learn, 8×8 pixels, which need no download."""

from __future__ import annotations

import numpy as np

from cliquegraph.data.source import Arrays, Contents
from cliquegraph.data.split import Purpose, generator, stratified
from cliquegraph.diagnostics.errors import UsageError

TEST_IMAGES = 360


def read_digits() -> Contents:
    """Return 1,437 images to train on and 360 to test on, always the same, stratified."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UsageError("digits need scikit-learn: pip install scikit-learn") from error
    images, labels = load_digits(return_X_y=True)
    pixels = np.round(images * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    # The data set has no test split; a fixed one keeps results comparable.
    test = stratified(labels, TEST_IMAGES, generator(Purpose.TEST, 0))
    train = np.setdiff1d(np.arange(len(labels)), test)
    return Contents(
        Arrays([pixels[train]], labels[train]),
        Arrays([pixels[test]], labels[test]),
        tuple("0123456789"),
    )
