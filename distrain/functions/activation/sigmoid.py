"""Sigmoid, tanh and softplus."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable
from distrain.autograd.type_check import expect_float, refuse
from distrain.backend import Array, get_array_module


class Sigmoid(Primitive):
    """See `sigmoid`."""

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        expect_float("sigmoid", "x", in_types[0])

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        self.retain_outputs((0,))
        return (get_array_module(x).tanh(x * 0.5) * 0.5 + 0.5,)  # no overflow, unlike 1 / (1 + exp(-x))

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        return (gy * y * (1 - y),)


class Tanh(Primitive):
    """See `tanh`."""

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        expect_float("tanh", "x", in_types[0])

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_outputs((0,))
        return (get_array_module(inputs[0]).tanh(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        return (gy * (1 - y * y),)


class Softplus(Primitive):
    """See `softplus`."""

    def __init__(self, beta: float) -> None:
        self.beta = beta

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        expect_float("softplus", "x", in_types[0])
        if self.beta == 0:
            raise refuse("softplus", "beta", "not 0", str(self.beta))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        xp = get_array_module(x)
        self.retain_inputs((0,))
        z = x * self.beta
        return ((xp.maximum(z, 0) + xp.log1p(xp.exp(-abs(z)))) / self.beta,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        return (gy * Sigmoid().on(x * self.beta),)


def sigmoid(x: Variable | Array) -> Variable:
    """`1 / (1 + exp(-x))`, element by element.

    Raises:
        InvalidType: x is not of a floating point dtype.
    """
    return Sigmoid().apply1(x)


def tanh(x: Variable | Array) -> Variable:
    """Hyperbolic tangent, element by element.

    Raises:
        InvalidType: x is not of a floating point dtype.
    """
    return Tanh().apply1(x)


def softplus(x: Variable | Array, beta: float = 1.0) -> Variable:
    """`log(1 + exp(beta * x)) / beta`, a smooth `relu`.

    Raises:
        InvalidType: x is not of a floating point dtype, or beta is 0.
    """
    return Softplus(beta).apply1(x)
