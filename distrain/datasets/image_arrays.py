"""The arguments that all small image data sets share: shape, scale and dtype of the images, with or without labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distrain.config import config
from distrain.datasets.tuple_dataset import TupleDataset
from distrain.errors import ArgumentError


def grey_dataset(
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    white: int,
    withlabel: bool,
    ndim: int,
    scale: float,
    dtype: DTypeLike | None,
    label_dtype: DTypeLike,
    rgb_format: bool,
) -> Any:
    """Grey images as a dataset.

    Args:
        images: `(N, H, W)`, values `0 … white`.
        labels: `(N,)`.
        white: the largest value, which becomes `scale`.
        withlabel: a TupleDataset of images and labels, else the array of images.
        ndim: 1 for `(N, H * W)`, 2 for `(N, H, W)`, 3 for `(N, 1, H, W)`.
        scale: of the values.
        dtype: of the images; None is `config.dtype`.
        label_dtype: of the labels.
        rgb_format: with `ndim=3`, three equal channels: `(N, 3, H, W)`.

    Raises:
        ArgumentError: another `ndim`, or `rgb_format` without `ndim=3`.
    """
    n, height, width = images.shape
    check_ndim(ndim, (1, 2, 3))
    if rgb_format and ndim != 3:
        raise ArgumentError(f"rgb_format needs ndim=3, but ndim is {ndim}")
    if ndim == 1:
        images = images.reshape(n, height * width)
    elif ndim == 3:
        images = np.broadcast_to(images[:, None], (n, 3 if rgb_format else 1, height, width))
    x = scaled(images, scale / white, dtype)
    return TupleDataset(x, labels.astype(label_dtype)) if withlabel else x


def check_ndim(ndim: int, known: tuple[int, ...]) -> None:
    """Refuses a number of axes that a data set cannot have.

    Raises:
        ArgumentError: `ndim` is not one of `known`.
    """
    if ndim not in known:
        raise ArgumentError(f"ndim, the axes of one image, must be one of {', '.join(map(str, known))}, not {ndim!r}")


def scaled(images: NDArray[np.uint8], factor: float, dtype: DTypeLike | None) -> NDArray[Any]:
    """`images * factor` in `dtype` (None is `config.dtype`), without an intermediate array.

    Raises:
        ArgumentError: `dtype` is no floating-point type.
    """
    wanted = np.dtype(config.dtype if dtype is None else dtype)
    if wanted.kind != "f":
        raise ArgumentError(f"scaled images need a floating-point dtype, not {wanted}")
    x = images.astype(wanted, order="C")
    x *= factor
    return x
