"""Host arrays that many calls need alike: made once, read only."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from distrain.backend import Array


@functools.lru_cache(maxsize=16)
def host_ones(count: int, dtype: Any) -> Array:
    """Ones, shape (count,)."""
    return _frozen(np.ones(count, dtype))


@functools.lru_cache(maxsize=16)
def host_row_starts(rows: int, columns: int) -> Array:
    """Where each row of a (rows, columns) array begins in its flat view, shape (rows,)."""
    return _frozen(np.arange(0, rows * columns, columns))


@functools.lru_cache(maxsize=16)
def host_zero(dtype: Any) -> Array:
    """A zero without axes, with which NumPy computes faster than with Python's 0."""
    return _frozen(np.zeros((), dtype))


def _frozen(array: Array) -> Array:
    array.setflags(write=False)
    return array
