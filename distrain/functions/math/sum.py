"""Sums and means over axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable
from distrain.autograd.operators import install
from distrain.autograd.type_check import refuse
from distrain.backend import Array
from distrain.functions.array.broadcast import BroadcastTo
from distrain.functions.math.basic import div

Axis = int | Sequence[int] | None


class Sum(Primitive):
    """See `sum`."""

    def __init__(self, axis: tuple[int, ...] | None, keepdims: bool) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        if self.axis is not None:
            check_axes("sum", in_types[0], self.axis)

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (inputs[0].sum(axis=self.axis, keepdims=self.keepdims),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        shape = self.inputs[0].shape
        return (BroadcastTo(shape).on(with_axes(gy, shape, self.axis, self.keepdims)),)


def with_axes(y: Any, shape: tuple[int, ...], axis: tuple[int, ...] | None, keepdims: bool) -> Any:
    """A reduced array or Variable with its lost axes back as axes of length 1, so that it broadcasts to `shape`."""
    if axis is None or keepdims:
        return y
    gone = {a % len(shape) for a in axis}
    return y.reshape(tuple([1 if i in gone else n for i, n in enumerate(shape)]))


def check_axes(function: str, x: Array, axes: tuple[int, ...]) -> None:
    """Checks that every axis is there and named once.

    Raises:
        InvalidType: it is not.
    """
    for a in axes:
        if not -x.ndim <= a < x.ndim:
            raise refuse(function, "axis", f"{-x.ndim} … {x.ndim - 1} for {x.ndim} axes", str(a))
    if len({a % x.ndim for a in axes}) != len(axes):
        raise refuse(function, "axis", "every axis at most once", str(axes))


def as_axes(axis: Axis) -> tuple[int, ...] | None:
    """An axis or several as a tuple; None stays None."""
    if axis is None:
        return None
    return (int(axis),) if isinstance(axis, (int, np.integer)) else tuple(axis)


def sum(x: Variable | Array, axis: Axis = None, keepdims: bool = False) -> Variable:
    """Sum over some axes, over all if none is named.

    Raises:
        InvalidType: there is no such axis.
    """
    return Sum(as_axes(axis), keepdims).apply1(x)


def average(
    x: Variable | Array, axis: Axis = None, weights: Variable | Array | None = None, keepdims: bool = False
) -> Variable:
    """Mean over some axes, over all if none is named; the mean of nothing is 0.

    Args:
        x: the array.
        axis: one axis or several.
        weights: weight of each element along `axis`: of the shape of x, or of the length of the one axis.
        keepdims: leave the axes in, with length 1.

    Raises:
        InvalidType: there is no such axis, or the weights do not fit.
    """
    axes = as_axes(axis)
    if axes is not None:
        check_axes("average", x, axes)
    if weights is not None:
        return _weighted_average(x, axes, weights, keepdims)
    count = math.prod(x.shape if axes is None else [x.shape[a] for a in axes])
    return div(sum(x, axes, keepdims), max(count, 1))


def _weighted_average(x: Any, axes: tuple[int, ...] | None, weights: Any, keepdims: bool) -> Variable:
    if weights.shape != x.shape:
        if axes is None or len(axes) != 1 or weights.shape != (x.shape[axes[0]],):
            raise refuse(
                "average",
                "weights",
                f"the shape of x, {tuple(x.shape)}, or the length of one axis",
                f"shape {tuple(weights.shape)} with axis {axes}",
            )
        at = axes[0] % x.ndim
        weights = weights.reshape(tuple([x.shape[at] if i == at else 1 for i in range(x.ndim)]))
        return div(sum(x * weights, axes, keepdims), sum(weights))
    return div(sum(x * weights, axes, keepdims), sum(weights, axes, keepdims))


mean = average

install(sum=sum, mean=average)
