"""The fast way from a dataset to a minibatch: all examples of a batch in one step, column by column.

A dataset whose examples lie in arrays has a method

    def columns_at(self, indices):
        return self.x.take(indices, axis=0), self.t.take(indices, axis=0)

that returns what `concat_examples([self[i] for i in indices])` would return (an array, or a tuple or dict of arrays,
in memory of its own), or None when this dataset cannot. `indices` is `(N,)` intp, each in `0 … len - 1`. Whether it
returns None may depend on the dataset but not on the indices. Datasets made of other datasets pass the question on.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.backend import Array, get_array_module, is_gpu_array


def columns_at(dataset: Any, indices: NDArray[np.intp]) -> Any:
    """The collated examples at some positions of a dataset, or None if it can only be read one by one.

    Args:
        dataset: anything with `__getitem__`; arrays are datasets too.
        indices: `(N,)` intp, each in `0 … len - 1`.
    """
    method = getattr(dataset, "columns_at", None)
    if method is not None:
        return method(indices)
    return take(dataset, indices) if is_column(dataset) else None


def is_column(x: Any) -> bool:
    """Whether it is a plain array of at least one axis, of numbers and not of objects."""
    kind = type(x)
    is_array = kind is np.ndarray or kind is np.memmap or is_gpu_array(x)
    return is_array and x.ndim > 0 and x.dtype != object


def take(column: Array, indices: NDArray[np.intp]) -> Array:
    """Rows of an array, copied."""
    # ndarray.take copies whole rows and is 10 % faster than indexing for 100 rows of 784 float32.
    if type(column) is np.ndarray:
        return column.take(indices, 0)
    if isinstance(column, np.ndarray):
        return np.asarray(column).take(indices, 0)  # asarray: what is read from a memmap is no memmap
    return column.take(get_array_module(column).asarray(indices), axis=0)
