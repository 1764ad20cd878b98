"""Largest and smallest: over axes, of two arrays, and where they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable, as_array
from distrain.autograd.type_check import describe, expect_float, refuse
from distrain.backend import Array, get_array_module
from distrain.functions.array.broadcast import common_shape, summed_to
from distrain.functions.math.basic import of_one_dtype
from distrain.functions.math.sum import Axis, as_axes, check_axes, with_axes


class _Extreme(Primitive):
    name = ""

    def __init__(self, axis: tuple[int, ...] | None, keepdims: bool) -> None:
        self.axis = axis
        self.keepdims = keepdims

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        (x,) = in_types
        expect_float(self.name, "x", x)
        _check_not_empty(self.name, x, self.axis)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x, y = self._input_data[0], self._output_data[0]
        hit = x == with_axes(y, x.shape, self.axis, self.keepdims)
        share = hit / hit.sum(axis=self.axis, keepdims=True)  # equal elements share the gradient
        return (with_axes(gy, x.shape, self.axis, self.keepdims) * share.astype(x.dtype),)


class Max(_Extreme):
    """See `max`."""

    name = "max"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        self.retain_outputs((0,))
        return (inputs[0].max(axis=self.axis, keepdims=self.keepdims),)


class Min(_Extreme):
    """See `min`."""

    name = "min"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        self.retain_outputs((0,))
        return (inputs[0].min(axis=self.axis, keepdims=self.keepdims),)


class Maximum(Primitive):
    """See `maximum`."""

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        common_shape("maximum", *in_types)

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0, 1))
        return (get_array_module(*inputs).maximum(*inputs),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        a, b = self._input_data
        first = a >= b
        return [
            summed_to(gy * (~first if i else first), self.inputs[i].shape).astype(self.inputs[i].dtype)
            for i in target_input_indexes
        ]


class Clip(Primitive):
    """See `clip`."""

    def __init__(self, x_min: float | None, x_max: float | None) -> None:
        self.x_min = x_min
        self.x_max = x_max

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        expect_float("clip", "x", in_types[0])
        if self.x_min is not None and self.x_max is not None and self.x_min > self.x_max:
            raise refuse("clip", "x_min", f"at most x_max, {self.x_max}", str(self.x_min))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        return (inputs[0].clip(self.x_min, self.x_max),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x = self._input_data[0]
        inside = get_array_module(x).ones(self.inputs[0].shape, bool)
        if self.x_min is not None:
            inside &= x >= self.x_min
        if self.x_max is not None:
            inside &= x <= self.x_max
        return (gy * inside,)


def _check_not_empty(function: str, x: Array, axes: tuple[int, ...] | None) -> None:
    if axes is not None:
        check_axes(function, x, axes)
    if not math.prod(x.shape if axes is None else [x.shape[a] for a in axes]):
        raise refuse(function, "x", "one element or more along the axes", f"{describe(x)} with axis {axes}")


def max(x: Variable | Array, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The largest element along some axes, of all if none is named; equal ones share the gradient.

    Raises:
        InvalidType: there is no such axis, or no element along it.
    """
    return Max(as_axes(axis), keepdims).apply1(x)


def min(x: Variable | Array, axis: Axis = None, keepdims: bool = False) -> Variable:
    """The smallest element along some axes, of all if none is named; equal ones share the gradient.

    Raises:
        InvalidType: there is no such axis, or no element along it.
    """
    return Min(as_axes(axis), keepdims).apply1(x)


def argmax(x: Variable | Array, axis: int | None = None) -> Variable:
    """Where the largest element is; integers, no gradient.

    Raises:
        InvalidType: there is no such axis, or no element along it.
    """
    array = as_array(x)
    _check_not_empty("argmax", array, as_axes(axis))
    return Variable(array.argmax(axis=axis), requires_grad=False)


def argmin(x: Variable | Array, axis: int | None = None) -> Variable:
    """Where the smallest element is; integers, no gradient.

    Raises:
        InvalidType: there is no such axis, or no element along it.
    """
    array = as_array(x)
    _check_not_empty("argmin", array, as_axes(axis))
    return Variable(array.argmin(axis=axis), requires_grad=False)


def maximum(x1: Variable | Array, x2: Variable | Array, *xs: Variable | Array) -> Variable:
    """The larger of two or more arrays, element by element; where they are equal the first has the gradient.

    Raises:
        InvalidType: the shapes do not broadcast together.
    """
    y = Maximum().apply(of_one_dtype(x1, x2))[0]
    for x in xs:
        y = Maximum().apply(of_one_dtype(y, x))[0]
    return y


def minimum(x1: Variable | Array, x2: Variable | Array, *xs: Variable | Array) -> Variable:
    """The smaller of two or more arrays, element by element; where they are equal the first has the gradient.

    Raises:
        InvalidType: the shapes do not broadcast together.
    """
    return -maximum(-x1, -x2, *[-x for x in xs])


def clip(x: Variable | Array, x_min: float | None, x_max: float | None) -> Variable:
    """Every element moved into `[x_min, x_max]`; None leaves a side open. Moved elements have no gradient.

    Raises:
        InvalidType: `x_min` is larger than `x_max`.
    """
    return Clip(x_min, x_max).apply1(x)
