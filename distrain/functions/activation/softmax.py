"""Softmax and its logarithm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable
from distrain.autograd.type_check import describe, expect_float, refuse
from distrain.backend import Array, get_array_module
from distrain.functions.math.exponential import Exp


class _AlongAxis(Primitive):
    name = ""

    def __init__(self, axis: int) -> None:
        self.axis = axis

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        (x,) = in_types
        expect_float(self.name, "x", x)
        if not -x.ndim <= self.axis < x.ndim:
            raise refuse(self.name, "axis", f"{-x.ndim} … {x.ndim - 1} for {x.ndim} axes", str(self.axis))
        if x.shape[self.axis] == 0:
            raise refuse(self.name, "x", f"one element or more along axis {self.axis}", describe(x))


class Softmax(_AlongAxis):
    """See `softmax`."""

    name = "softmax"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        xp = get_array_module(x)
        self.retain_outputs((0,))
        y = x - x.max(axis=self.axis, keepdims=True)
        xp.exp(y, out=y)
        y /= y.sum(axis=self.axis, keepdims=True)
        return (y,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        g = gy * y
        return (g - y * g.sum(axis=self.axis, keepdims=True),)


class LogSoftmax(_AlongAxis):
    """See `log_softmax`."""

    name = "log_softmax"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        xp = get_array_module(x)
        self.retain_outputs((0,))
        y = x - x.max(axis=self.axis, keepdims=True)
        y -= xp.log(xp.exp(y).sum(axis=self.axis, keepdims=True))
        return (y,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        return (gy - Exp().on(y) * gy.sum(axis=self.axis, keepdims=True),)


def softmax(x: Variable | Array, axis: int = 1) -> Variable:
    """`exp(x) / sum(exp(x))` along an axis.

    Args:
        x: any shape, floating point.
        axis: the elements along it sum to 1.

    Raises:
        InvalidType: there is no such axis or nothing along it, or x is not of a floating point dtype.
    """
    return Softmax(axis).apply1(x)


def log_softmax(x: Variable | Array, axis: int = 1) -> Variable:
    """Logarithm of `softmax`, exact also where the softmax is too small for a number.

    Args:
        x: any shape, floating point.
        axis: as for `softmax`.

    Raises:
        InvalidType: there is no such axis or nothing along it, or x is not of a floating point dtype.
    """
    return LogSoftmax(axis).apply1(x)
