"""Repeating an array along axes, and its transpose, the sum that undoes the shape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable, as_variable
from distrain.autograd.type_check import describe, refuse
from distrain.backend import Array, get_array_module


class BroadcastTo(Primitive):
    """See `broadcast_to`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        (x,) = in_types
        lead = len(self.shape) - x.ndim
        if lead < 0 or any(have not in (1, want) for have, want in zip(x.shape, self.shape[lead:], strict=True)):
            raise refuse("broadcast_to", "x", f"a shape that can be repeated to {self.shape}", describe(x))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        xp = get_array_module(x)
        # A copy: the repeated rows of a view share memory, and an output may be written to.
        return (xp.ascontiguousarray(xp.broadcast_to(x, self.shape)).reshape(self.shape),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        return (summed_to(gy, self.inputs[0].shape),)


class SumTo(Primitive):
    """See `sum_to`."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        (x,) = in_types
        lead = x.ndim - len(self.shape)
        if lead < 0 or any(want not in (1, have) for have, want in zip(x.shape[lead:], self.shape, strict=True)):
            raise refuse("sum_to", "x", f"a shape that sums to {self.shape}", describe(x))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        lead = x.ndim - len(self.shape)
        axes = tuple(range(lead)) + tuple(
            [lead + i for i, n in enumerate(self.shape) if n == 1 and x.shape[lead + i] != 1]
        )
        y = x.sum(axis=axes, keepdims=True)
        return (y.reshape(self.shape),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        return (BroadcastTo(self.inputs[0].shape).on(gy),)


def summed_to(g: Any, shape: tuple[int, ...]) -> Any:
    """`sum_to` in kind: an array for an array, a Variable for a Variable. For the `backward` of functions."""
    return g if g.shape == shape else SumTo(shape).on(g)


def broadcast_to(x: Variable | Array, shape: tuple[int, ...]) -> Variable:
    """Repeats an array to a larger shape, by NumPy's rules.

    Args:
        x: array whose trailing axes are 1 or those of `shape`.
        shape: shape of the result.

    Raises:
        InvalidType: x cannot be repeated to that shape.
    """
    if x.shape == shape:
        return as_variable(x)
    return BroadcastTo(tuple(shape)).apply1(x)


def sum_to(x: Variable | Array, shape: tuple[int, ...]) -> Variable:
    """Sums over axes until the array has a shape that could be broadcast to its own.

    Raises:
        InvalidType: x is not of a shape to which `shape` broadcasts.
    """
    if x.shape == shape:
        return as_variable(x)
    return SumTo(tuple(shape)).apply1(x)


def broadcast(*args: Variable | Array) -> tuple[Variable, ...]:
    """Repeats all arguments to their common shape.

    Raises:
        InvalidType: they have none.
    """
    shape = common_shape("broadcast", *args)
    return tuple([broadcast_to(x, shape) for x in args])


def common_shape(function: str, *xs: Any) -> tuple[int, ...]:
    """The shape to which all arguments broadcast.

    Raises:
        InvalidType: there is none.
    """
    shape = [1] * max(len(x.shape) for x in xs)
    for x in xs:
        for i in range(1, len(x.shape) + 1):
            if x.shape[-i] != 1:
                if shape[-i] not in (1, x.shape[-i]):
                    shapes = " and ".join(str(tuple(x.shape)) for x in xs)
                    raise refuse(function, "x", "shapes that broadcast together", shapes)
                shape[-i] = x.shape[-i]
    return tuple(shape)
