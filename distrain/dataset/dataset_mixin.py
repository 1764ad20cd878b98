"""The usual base of a dataset: define `get_example` and `__len__`, get indexing for nothing."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from typing import Any

import numpy as np


class DatasetMixin(ABC):
    """A dataset whose subclass defines `__len__` and `get_example(i)`.

        class Squares(DatasetMixin):
            def __len__(self):
                return 10

            def get_example(self, i):
                return np.float32(i), np.float32(i * i)

    `dataset[i]` is an example; `dataset[a:b]`, `dataset[[3, 1]]` and `dataset[array]` are lists of examples. Negative
    indices count from the end. `get_example` only ever sees an int in `0 … len - 1`.
    """

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self.get_example(i) for i in range(*index.indices(len(self)))]
        if isinstance(index, (list, np.ndarray)) and np.ndim(index):
            return [self.get_example(i) for i in positions(index, len(self))]
        return self.get_example(position(index, len(self)))

    @abstractmethod
    def __len__(self) -> int:
        """Number of examples."""

    @abstractmethod
    def get_example(self, i: int) -> Any:
        """The example at position `i`, `0 <= i < len(self)`."""


def position(index: Any, length: int) -> int:
    """An index as an int in `0 … length - 1`.

    Raises:
        IndexError: there is no such example.
        TypeError: it is not an integer.
    """
    i = operator.index(index)
    if not -length <= i < length:
        raise IndexError(f"index {i} is outside a dataset of {length} examples")
    return i + length if i < 0 else i


def positions(index: Any, length: int) -> list[int]:
    """A list or an array of integers, or a boolean mask, as ints in `0 … length - 1`.

    Raises:
        IndexError: there is no such example, or a mask of another length.
        TypeError: not integers.
    """
    array = np.asarray(index)
    if array.dtype == bool:
        if array.shape != (length,):
            raise IndexError(f"a mask of shape {array.shape} for a dataset of {length} examples")
        return [int(i) for i in np.flatnonzero(array)]
    return [position(i, length) for i in (array if array.size else ())]
