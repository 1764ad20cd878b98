"""The same numbers in another shape: reshape, flatten, transpose and their kin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable, as_variable
from distrain.autograd.operators import install
from distrain.autograd.type_check import describe, refuse
from distrain.backend import Array


class Reshape(Primitive):
    """See `reshape`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        (x,) = in_types
        known = math.prod([n for n in self.shape if n != -1])
        unknown = self.shape.count(-1)
        fits = x.size == known if unknown == 0 else unknown == 1 and known != 0 and x.size % known == 0
        if not fits:
            raise refuse("reshape", "x", f"as many elements as shape {self.shape} has", f"{x.size} ({describe(x)})")

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (inputs[0].reshape(self.shape),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (grad_outputs[0].reshape(self.inputs[0].shape),)


class Transpose(Primitive):
    """See `transpose`."""

    def __init__(self, axes: tuple[int, ...] | None) -> None:
        self.axes = axes

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        (x,) = in_types
        if self.axes is not None and sorted(a % x.ndim for a in self.axes if -x.ndim <= a < x.ndim) != list(
            range(x.ndim)
        ):
            raise refuse("transpose", "axes", f"each of the {x.ndim} axes of x once", f"{self.axes} for {describe(x)}")

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (inputs[0].transpose(self.axes),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        if self.axes is None:
            return (gy.transpose(),)
        ndim = len(self.axes)
        back = sorted(range(ndim), key=[a % ndim for a in self.axes].__getitem__)
        return (gy.transpose(back),)


def reshape(x: Variable | Array, shape: int | Sequence[int]) -> Variable:
    """The same numbers in another shape; one axis may be -1.

    Raises:
        InvalidType: the number of elements differs.
    """
    shape = (int(shape),) if isinstance(shape, (int, np.integer)) else tuple(shape)
    return as_variable(x) if x.shape == shape else Reshape(shape).apply1(x)


def flatten(x: Variable | Array) -> Variable:
    """All elements along one axis."""
    return reshape(x, (-1,))


def transpose(x: Variable | Array, axes: Sequence[int] | None = None) -> Variable:
    """The axes in another order, reversed if none is given.

    Raises:
        InvalidType: `axes` does not name every axis once.
    """
    return Transpose(None if axes is None else tuple(axes)).apply1(x)


def swapaxes(x: Variable | Array, axis1: int, axis2: int) -> Variable:
    """Two axes exchanged."""
    axes = list(range(x.ndim))
    axes[axis1], axes[axis2] = axes[axis2], axes[axis1]
    return transpose(x, axes)


def moveaxis(x: Variable | Array, source: int, destination: int) -> Variable:
    """One axis moved to another place."""
    axes = list(range(x.ndim))
    moved = axes.pop(source)
    axes.insert(destination % x.ndim, moved)
    return transpose(x, axes)


def rollaxis(x: Variable | Array, axis: int, start: int = 0) -> Variable:
    """One axis rolled back until it stands before axis `start`."""
    axis, start = axis % x.ndim, start + x.ndim if start < 0 else start
    return moveaxis(x, axis, start - 1 if axis < start else start)


def expand_dims(x: Variable | Array, axis: int) -> Variable:
    """A new axis of length 1 at that place of the result.

    Raises:
        InvalidType: the result would not have such an axis.
    """
    if not -x.ndim - 1 <= axis <= x.ndim:
        raise refuse("expand_dims", "axis", f"{-x.ndim - 1} … {x.ndim} for {x.ndim} axes", str(axis))
    at = axis % (x.ndim + 1)
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


def squeeze(x: Variable | Array, axis: int | Sequence[int] | None = None) -> Variable:
    """Without some axes of length 1, all of them if none is named.

    Raises:
        InvalidType: a named axis is not of length 1, or not there.
    """
    if axis is None:
        return reshape(x, tuple(n for n in x.shape if n != 1))
    axes = (int(axis),) if isinstance(axis, (int, np.integer)) else tuple(axis)
    for a in axes:
        if not -x.ndim <= a < x.ndim or x.shape[a] != 1:
            raise refuse("squeeze", "axis", "axes of length 1", f"axis {a} of shape {tuple(x.shape)}")
    gone = {a % x.ndim for a in axes}
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in gone))


install(reshape=reshape, transpose=transpose)
