"""Choosing between two arrays, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable, as_array
from distrain.autograd.type_check import describe, refuse
from distrain.backend import Array, get_array_module
from distrain.functions.array.broadcast import common_shape, summed_to


class Where(Primitive):
    """See `where`."""

    def __init__(self, condition: Array) -> None:
        self.condition = condition

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        x, y = in_types
        if self.condition.dtype.kind != "b":
            raise refuse("where", "condition", "dtype bool", describe(self.condition))
        if x.dtype != y.dtype:
            raise refuse("where", "y", f"the dtype of x, {x.dtype}", describe(y))
        common_shape("where", self.condition, x, y)

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, y = inputs
        return (get_array_module(x).where(self.condition, x, y),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        masks = (self.condition, ~self.condition)
        return [summed_to(gy * masks[i], self.inputs[i].shape) for i in target_input_indexes]


def where(condition: Variable | Array, x: Variable | Array, y: Variable | Array) -> Variable:
    """Elements of x where the condition holds, of y elsewhere; shapes broadcast.

    Args:
        condition: array of bools; takes no gradient.
        x: chosen where it is True.
        y: chosen where it is False; dtype of x.

    Raises:
        InvalidType: the condition is not of bools, the dtypes differ, or the shapes do not broadcast together.
    """
    return Where(as_array(condition)).apply1(x, y)
