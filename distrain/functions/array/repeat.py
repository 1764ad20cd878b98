"""Repeating elements and arrays."""

from __future__ import annotations

from distrain.autograd import Variable
from distrain.autograd.type_check import refuse
from distrain.backend import Array
from distrain.functions.array.broadcast import broadcast_to
from distrain.functions.array.shape import reshape


def repeat(x: Variable | Array, repeats: int, axis: int | None = None) -> Variable:
    """Every element several times in a row.

    Args:
        x: the array.
        repeats: how often.
        axis: along which axis; None flattens the array first.

    Raises:
        InvalidType: `repeats` is negative or there is no such axis.
    """
    if repeats < 0:
        raise refuse("repeat", "repeats", "0 or more", str(repeats))
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    if not -x.ndim <= axis < x.ndim:
        raise refuse("repeat", "axis", f"{-x.ndim} … {x.ndim - 1} for {x.ndim} axes", str(axis))
    shape, at = tuple(x.shape), axis % x.ndim
    single = reshape(x, (*shape[: at + 1], 1, *shape[at + 1 :]))
    rows = broadcast_to(single, (*shape[: at + 1], repeats, *shape[at + 1 :]))
    return reshape(rows, (*shape[:at], shape[at] * repeats, *shape[at + 1 :]))


def tile(x: Variable | Array, reps: int | tuple[int, ...]) -> Variable:
    """The whole array several times along each axis.

    Args:
        x: the array.
        reps: how often along each axis; counted from the last axis, as in NumPy.

    Raises:
        InvalidType: an entry of `reps` is negative.
    """
    counts = (reps,) if isinstance(reps, int) else tuple(reps)
    if any(n < 0 for n in counts):
        raise refuse("tile", "reps", "0 or more along each axis", str(counts))
    ndim = max(len(counts), x.ndim)
    counts = (1,) * (ndim - len(counts)) + counts
    shape = (1,) * (ndim - x.ndim) + tuple(x.shape)
    apart = tuple([n for pair in zip(counts, shape, strict=True) for n in pair])
    single = reshape(x, tuple([n for length in shape for n in (1, length)]))
    return reshape(broadcast_to(single, apart), tuple([c * n for c, n in zip(counts, shape, strict=True)]))
