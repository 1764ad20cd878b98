"""Checks of what is handed to a collective, made before anything is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, get_args

import numpy as np

from distrain.backend import Array
from distrain.comm.communicator import Reduction
from distrain.cuda import is_gpu_array
from distrain.errors import ArgumentError, InvalidType

_SUMMABLE = frozenset(np.dtype(code) for code in "?bBhHiIlLqQefd")


def check_summable(array: Array, out: Array | None = None) -> None:
    """Raises InvalidType if an array cannot be summed over the ranks, into `out` if that is given."""
    _check_array("allreduce", array)
    if array.dtype not in _SUMMABLE or not array.dtype.isnative:
        raise InvalidType(
            f"allreduce cannot sum arrays of {array.dtype!s}; it takes bool, integers, float16, float32 and float64 "
            "in native byte order. Convert with astype first."
        )
    if out is not None:
        check_out("allreduce", out)
        if (out.dtype, out.shape) != (array.dtype, array.shape):
            raise InvalidType(
                f"allreduce of {array.dtype!s} {array.shape} cannot write its result into {out.dtype!s} {out.shape}; "
                "out must have the dtype and shape of the array."
            )


def check_sendable(operation: str, array: Any) -> None:
    """Raises InvalidType if something is not an array, or one that cannot be sent."""
    _check_array(operation, array)
    if array.dtype.hasobject:
        raise InvalidType(f"{operation} cannot send arrays of Python objects; use {operation}_obj.")


def check_out(operation: str, out: Any) -> None:
    """Raises InvalidType if a result cannot be written there."""
    _check_array(operation, out)
    if not is_gpu_array(out) and not out.flags.writeable:
        raise InvalidType(f"{operation} cannot write into this array of shape {out.shape}: it is read-only.")


def _check_array(operation: str, array: Any) -> None:
    if not is_gpu_array(array) and not isinstance(array, np.ndarray):
        raise InvalidType(f"{operation} works on arrays, not on {type(array).__name__}; see {operation}_obj.")


def problem_with(operation: str, arrays: Any, size: int) -> str | None:
    """What is wrong with the arrays for all ranks, one for each; None if nothing is.

    Told and not raised, so that the other ranks can be told too.
    """
    if not isinstance(arrays, Sequence) or len(arrays) != size:
        count = len(arrays) if isinstance(arrays, Sequence) else type(arrays).__name__
        return f"{operation} takes a sequence of {size} arrays, one for each rank, not {count}"
    try:
        for array in arrays:
            check_sendable(operation, array)
    except InvalidType as error:
        return str(error)
    return None


def check_root(root: int, size: int) -> None:
    """Raises ArgumentError if there is no such rank."""
    if not 0 <= root < size:
        raise ArgumentError(f"root must be a rank of this communicator, 0 … {size - 1}, not {root!r}")


def check_peer(peer: int, rank: int, size: int) -> None:
    """Raises ArgumentError if there is no such other rank to send to or receive from."""
    if not 0 <= peer < size or peer == rank:
        raise ArgumentError(
            f"rank {rank} of {size} can send to and receive from the other ranks of 0 … {size - 1}, not {peer!r}"
        )


def check_reduction(op: str) -> None:
    """Raises ArgumentError if a reduction is unknown."""
    if op not in get_args(Reduction):
        raise ArgumentError(f"op must be one of {', '.join(get_args(Reduction))}, not {op!r}")


def problem_with_objects(objs: Any, size: int) -> str | None:
    """What is wrong with the objects for all ranks, one for each; None if nothing is."""
    if isinstance(objs, Sequence) and len(objs) == size:
        return None
    count = len(objs) if isinstance(objs, Sequence) else type(objs).__name__
    return f"scatter_obj takes a sequence of {size} objects, one for each rank, not {count}"
