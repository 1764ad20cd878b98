"""Image files as examples, read when they are asked for."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from distrain.config import config
from distrain.dataset.dataset_mixin import DatasetMixin
from distrain.errors import DatasetError


class ImageDataset(DatasetMixin):
    """A dataset of image files. An example is an array `(channels, height, width)` with values as in the file.

    Args:
        paths: paths of the images, or the path of a text file with one path a line.
        root: directory that the paths start from.
        dtype: of the arrays; None is `config.dtype`.

    Raises:
        DatasetError: the text file cannot be read.
    """

    def __init__(
        self,
        paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        root: str | os.PathLike[str] = ".",
        dtype: DTypeLike | None = None,
    ) -> None:
        if isinstance(paths, (str, os.PathLike)):
            paths = _lines(paths)
        self._paths = [os.fspath(path) for path in paths]
        self._root = Path(root)
        self._dtype = np.dtype(config.dtype if dtype is None else dtype)

    def __len__(self) -> int:
        return len(self._paths)

    def get_example(self, i: int) -> NDArray[Any]:
        """The image at position `i`, `(channels, height, width)`.

        Raises:
            DatasetError: the file is not there or is no image, or Pillow is not installed.
        """
        return read_image(self._root / self._paths[i], self._dtype)


class LabeledImageDataset(DatasetMixin):
    """A dataset of image files with integer labels. An example is `(image, label)`.

    Args:
        pairs: pairs of a path and a label, or the path of a text file with a path, a space and a label a line.
        root: directory that the paths start from.
        dtype: of the images; None is `config.dtype`.
        label_dtype: of the labels.

    Raises:
        DatasetError: the text file cannot be read, or a line has no label.
    """

    def __init__(
        self,
        pairs: str | os.PathLike[str] | Sequence[tuple[str | os.PathLike[str], int]],
        root: str | os.PathLike[str] = ".",
        dtype: DTypeLike | None = None,
        label_dtype: DTypeLike = np.int32,
    ) -> None:
        if isinstance(pairs, (str, os.PathLike)):
            pairs = _labelled_lines(pairs)
        self._paths = [os.fspath(path) for path, _ in pairs]
        self._labels = np.array([label for _, label in pairs], label_dtype)
        self._root = Path(root)
        self._dtype = np.dtype(config.dtype if dtype is None else dtype)

    def __len__(self) -> int:
        return len(self._paths)

    def get_example(self, i: int) -> tuple[NDArray[Any], Any]:
        """The image `(channels, height, width)` at position `i` and its label.

        Raises:
            DatasetError: the file is not there or is no image, or Pillow is not installed.
        """
        return read_image(self._root / self._paths[i], self._dtype), self._labels[i]


def read_image(path: Path, dtype: DTypeLike) -> NDArray[Any]:
    """An image file as an array `(channels, height, width)`.

    Raises:
        DatasetError: the file is not there or is no image, or Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise DatasetError(f"reading {path} needs Pillow: pip install distrain[image]") from error
    try:
        with Image.open(path) as image:
            array = np.asarray(image, dtype)
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's words for files that are no whole images
        raise DatasetError(f"cannot read the image {path}: {error}. Mend it, or leave it out of the list.") from error
    if array.ndim == 2:  # grey
        array = array[:, :, None]
    return array.transpose(2, 0, 1)


def _lines(path: str | os.PathLike[str]) -> list[str]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"cannot read {os.fspath(path)}, which should list the images: {error}") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _labelled_lines(path: str | os.PathLike[str]) -> list[tuple[str, int]]:
    pairs = []
    for number, line in enumerate(_lines(path), 1):
        name, _, label = line.rpartition(" ")
        if not name or not label.lstrip("-").isdecimal():
            where = f"{os.fspath(path)}, entry {number}"
            raise DatasetError(f"{where}: {line!r} is not a path, a space and an integer label")
        pairs.append((name.rstrip(), int(label)))
    return pairs
