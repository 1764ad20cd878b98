"""Exponential and logarithm, roots and squares, element by element."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable
from distrain.autograd.type_check import expect_float
from distrain.backend import Array, get_array_module


class _Elementwise(Primitive):
    name = ""

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        expect_float(self.name, "x", in_types[0])


class Exp(_Elementwise):
    """See `exp`."""

    name = "exp"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_outputs((0,))
        return (get_array_module(inputs[0]).exp(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        return (gy * y,)


class Expm1(_Elementwise):
    """See `expm1`."""

    name = "expm1"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_outputs((0,))
        return (get_array_module(inputs[0]).expm1(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        return (gy * (y + 1),)


class Log(_Elementwise):
    """See `log`."""

    name = "log"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        return (get_array_module(inputs[0]).log(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        return (gy / x,)


class Log1p(_Elementwise):
    """See `log1p`."""

    name = "log1p"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        return (get_array_module(inputs[0]).log1p(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        return (gy / (x + 1),)


class Sqrt(_Elementwise):
    """See `sqrt`."""

    name = "sqrt"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_outputs((0,))
        return (get_array_module(inputs[0]).sqrt(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        return (gy / (y * 2),)


class Square(_Elementwise):
    """See `square`."""

    name = "square"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        return (inputs[0] * inputs[0],)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        return (gy * (x * 2),)


def exp(x: Variable | Array) -> Variable:
    """e to the power of every element."""
    return Exp().apply1(x)


def expm1(x: Variable | Array) -> Variable:
    """`exp(x) - 1`, exact also near 0."""
    return Expm1().apply1(x)


def log(x: Variable | Array) -> Variable:
    """Natural logarithm of every element."""
    return Log().apply1(x)


def log1p(x: Variable | Array) -> Variable:
    """`log(1 + x)`, exact also near 0."""
    return Log1p().apply1(x)


def sqrt(x: Variable | Array) -> Variable:
    """Square root of every element."""
    return Sqrt().apply1(x)


def rsqrt(x: Variable | Array) -> Variable:
    """1 over the square root of every element."""
    return 1.0 / sqrt(x)


def square(x: Variable | Array) -> Variable:
    """Square of every element."""
    return Square().apply1(x)
