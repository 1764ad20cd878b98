"""Checks of what is handed to a collective, made before anything is sent."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from distrain.backend import Array
from distrain.comm.communicator import Reduction
from distrain.cuda import is_gpu_array
from distrain.errors import ArgumentError, InvalidType

_SUMMABLE = frozenset(np.dtype(code) for code in "?bBhHiIlLqQefd")


def check_summable(array: Array) -> None:
    """Raises InvalidType if an array cannot be summed in place over the ranks."""
    _check_array("allreduce", array)
    if array.dtype not in _SUMMABLE or not array.dtype.isnative:
        raise InvalidType(
            f"allreduce cannot sum arrays of {array.dtype!s}; it takes bool, integers, float16, float32 and float64 "
            "in native byte order. Convert with astype first."
        )


def check_copyable(array: Array) -> None:
    """Raises InvalidType if an array cannot be overwritten with another rank's."""
    _check_array("bcast", array)
    if array.dtype.hasobject:
        raise InvalidType("bcast cannot send arrays of Python objects; use bcast_obj.")


def _check_array(operation: str, array: Any) -> None:
    if is_gpu_array(array):
        return
    if not isinstance(array, np.ndarray):
        raise InvalidType(
            f"{operation} works in place on an array, not on {type(array).__name__}; see {operation}_obj."
        )
    if not array.flags.writeable:
        raise InvalidType(
            f"{operation} works in place, but this array of shape {array.shape} is read-only. Pass a copy."
        )


def check_root(root: int, size: int) -> None:
    """Raises ArgumentError if there is no such rank."""
    if not 0 <= root < size:
        raise ArgumentError(f"root must be a rank of this communicator, 0 … {size - 1}, not {root!r}")


def check_reduction(op: str) -> None:
    """Raises ArgumentError if a reduction is unknown."""
    if op not in get_args(Reduction):
        raise ArgumentError(f"op must be one of {', '.join(get_args(Reduction))}, not {op!r}")
