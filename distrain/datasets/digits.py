"""The data set that needs no download: 1797 handwritten digits of 8 × 8 pixels, shipped with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distrain.datasets.image_arrays import grey_dataset


def get_digits(
    withlabel: bool = True,
    ndim: int = 1,
    scale: float = 1.0,
    dtype: DTypeLike | None = None,
    label_dtype: DTypeLike = np.int32,
    rgb_format: bool = False,
) -> tuple[Any, Any]:
    """Handwritten digits: 1442 to train on, 355 to test.

    "Optical Recognition of Handwritten Digits" by E. Alpaydin and C. Kaynak, UCI, 1998 (CC BY 4.0), its test set.

    Of each digit, every fifth sample in the order of the file is held out for the test. So the parts are disjoint,
    fixed, and balanced over the digits. Both hold digits by the same writers: the test says how well new digits by
    known writers are read, not those of a stranger.

    Args:
        withlabel: TupleDatasets of images and labels; False gives arrays of images.
        ndim: 1 for images `(64,)`, 2 for `(8, 8)`, 3 for `(1, 8, 8)`.
        scale: largest value of a pixel (pixels of the file are 0 … 16).
        dtype: of the images; None is `config.dtype`.
        label_dtype: of the labels.
        rgb_format: with `ndim=3`, three equal channels.

    Returns:
        Training set and test set.

    Raises:
        ArgumentError: another `ndim`, or `rgb_format` without `ndim=3`.
    """
    with np.load(Path(__file__).with_name("data") / "digits.npz") as arrays:
        images, labels = arrays["images"], arrays["labels"]
    held_out = _every_fifth(labels)
    train, test = (
        grey_dataset(
            images[part],
            labels[part],
            white=16,
            withlabel=withlabel,
            ndim=ndim,
            scale=scale,
            dtype=dtype,
            label_dtype=label_dtype,
            rgb_format=rgb_format,
        )
        for part in (~held_out, held_out)
    )
    return train, test


def _every_fifth(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    held_out = np.zeros(len(labels), bool)
    for label in range(10):
        held_out[np.flatnonzero(labels == label)[4::5]] = True
    return held_out
