"""Several datasets of one length under names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.backend import Array
from distrain.dataset.columns import is_column, take
from distrain.errors import DatasetError


class DictDataset:
    """A dataset whose example `i` is a dict of the i-th items of several datasets.

        train = DictDataset(x=x, t=t)
        train[3]                        # {"x": x[3], "t": t[3]}

    Args:
        datasets: arrays, lists or datasets, all of one length. When all are arrays, an iterator reads whole batches
            at once.

    Raises:
        DatasetError: no datasets, or lengths that differ.
    """

    def __init__(self, **datasets: Any) -> None:
        if not datasets:
            raise DatasetError("a DictDataset needs at least one dataset")
        lengths = {name: len(dataset) for name, dataset in datasets.items()}
        if len(set(lengths.values())) > 1:
            raise DatasetError(f"the datasets of a DictDataset must have one length, but they have {lengths}")
        self._datasets = datasets
        self._length = next(iter(lengths.values()))
        self._in_arrays = all(map(is_column, datasets.values())) and type(self).__getitem__ is DictDataset.__getitem__

    def __getitem__(self, index: Any) -> Any:
        items = {name: dataset[index] for name, dataset in self._datasets.items()}
        if isinstance(index, (slice, list, np.ndarray)):
            return [dict(zip(items, values, strict=True)) for values in zip(*items.values(), strict=True)]
        return items

    def __len__(self) -> int:
        return self._length

    def columns_at(self, indices: NDArray[np.intp]) -> dict[str, Array] | None:
        """See `distrain.dataset.columns`."""
        if not self._in_arrays:
            return None
        return {name: take(column, indices) for name, column in self._datasets.items()}
