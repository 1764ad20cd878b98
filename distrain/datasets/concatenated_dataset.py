"""Several datasets, one after the other."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.backend import Array, get_array_module
from distrain.dataset.columns import columns_at
from distrain.dataset.dataset_mixin import DatasetMixin
from distrain.errors import DatasetError


class ConcatenatedDataset(DatasetMixin):
    """A dataset of all examples of several datasets, in order.

    Args:
        datasets: the datasets.

    Raises:
        DatasetError: there are none.
    """

    def __init__(self, *datasets: Any) -> None:
        if not datasets:
            raise DatasetError("a ConcatenatedDataset needs at least one dataset")
        self._datasets = datasets
        self._ends = list(accumulate(len(dataset) for dataset in datasets))
        self._in_columns = type(self).get_example is ConcatenatedDataset.get_example and self._columns_fit()

    def __len__(self) -> int:
        return self._ends[-1]

    def get_example(self, i: int) -> Any:
        """The example at position `i`."""
        part = bisect_right(self._ends, i)
        return self._datasets[part][i - (self._ends[part - 1] if part else 0)]

    def columns_at(self, indices: NDArray[np.intp]) -> Any:
        """See `distrain.dataset.columns`."""
        if not self._in_columns:
            return None
        parts = np.searchsorted(self._ends, indices, side="right")
        grouped = np.argsort(parts, kind="stable")  # by dataset, else as asked for
        pieces = []
        for part in np.unique(parts):
            local = indices[parts == part] - (self._ends[part - 1] if part else 0)
            pieces.append(columns_at(self._datasets[part], local))
        back = np.empty_like(grouped)
        back[grouped] = np.arange(len(grouped))
        return _join(pieces, back)

    def _columns_fit(self) -> bool:
        """Whether all datasets can be read by column and have columns alike."""
        kinds = [_kind(columns_at(dataset, np.zeros(1, np.intp))) for dataset in self._datasets if len(dataset)]
        return bool(kinds) and kinds[0] is not None and all(kind == kinds[0] for kind in kinds)


def _kind(columns: Any) -> Any:
    """Structure, shapes and dtypes of the columns of one example; None if there are no columns."""
    if columns is None:
        return None
    if isinstance(columns, tuple):
        return [_kind(column) for column in columns]
    if isinstance(columns, dict):
        return {key: _kind(column) for key, column in columns.items()}
    return columns.shape, columns.dtype, get_array_module(columns)


def _join(pieces: list[Any], back: NDArray[np.intp]) -> Any:
    if isinstance(pieces[0], tuple):
        return tuple([_join(list(column), back) for column in zip(*pieces, strict=True)])
    if isinstance(pieces[0], dict):
        return {key: _join([piece[key] for piece in pieces], back) for key in pieces[0]}
    return _join_arrays(pieces, back)


def _join_arrays(pieces: list[Array], back: NDArray[np.intp]) -> Array:
    if len(pieces) == 1:
        return pieces[0]
    xp = get_array_module(pieces[0])
    return xp.concatenate(pieces).take(xp.asarray(back), axis=0)
