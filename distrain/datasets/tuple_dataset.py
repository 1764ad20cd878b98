"""Several datasets of one length, side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.backend import Array
from distrain.dataset.columns import is_column, take
from distrain.errors import DatasetError


class TupleDataset:
    """A dataset whose example `i` is the tuple of the i-th items of several datasets.

        train = TupleDataset(x, t)      # x: (N, …), t: (N,)
        train[3]                        # (x[3], t[3])
        train[2:5]                      # a list of three such tuples

    Args:
        datasets: arrays, lists or datasets, all of one length. When all are arrays, an iterator reads whole batches
            at once.

    Raises:
        DatasetError: no datasets, or lengths that differ.
    """

    def __init__(self, *datasets: Any) -> None:
        if not datasets:
            raise DatasetError("a TupleDataset needs at least one dataset")
        lengths = [len(dataset) for dataset in datasets]
        if len(set(lengths)) > 1:
            raise DatasetError(f"the datasets of a TupleDataset must have one length, but they have {lengths}")
        self._datasets = datasets
        self._length = lengths[0]
        self._in_arrays = all(map(is_column, datasets)) and type(self).__getitem__ is TupleDataset.__getitem__

    def __getitem__(self, index: Any) -> Any:
        items = [dataset[index] for dataset in self._datasets]
        if isinstance(index, (slice, list, np.ndarray)):
            return list(zip(*items, strict=True))
        return tuple(items)

    def __len__(self) -> int:
        return self._length

    def columns_at(self, indices: NDArray[np.intp]) -> tuple[Array, ...] | None:
        """See `distrain.dataset.columns`."""
        if not self._in_arrays:
            return None
        return tuple([take(column, indices) for column in self._datasets])
