"""Arithmetic, element by element: what the operators of Variable call.

Shapes broadcast as in NumPy. A number, and an array that is no Variable, takes the dtype of the Variable beside it,
so that a stray float64 never widens a float32 model.
"""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Number
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable, as_array, as_variable
from distrain.autograd.operators import install
from distrain.autograd.type_check import refuse
from distrain.backend import Array, get_array_module
from distrain.functions.array.broadcast import common_shape, summed_to

Operand = Variable | Array | float


def _fit(g: Any, x: Any) -> Any:
    """The gradient summed and cast to the place it belongs to."""
    g = summed_to(g, x.shape)
    return g if g.dtype == x.dtype else g.astype(x.dtype)


class _Binary(Primitive):
    name = ""

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        a, b = in_types
        if a.shape != b.shape:
            common_shape(self.name, a, b)


class Add(_Binary):
    """See `add`."""

    name = "add"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        a, b = inputs
        return (a + b,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        return [_fit(gy, self.inputs[i]) for i in target_input_indexes]


class AddConstant(Primitive):
    """See `add`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (inputs[0] + self.value,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return grad_outputs


class Sub(_Binary):
    """See `sub`."""

    name = "sub"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        a, b = inputs
        return (a - b,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        return [_fit(-gy if i else gy, self.inputs[i]) for i in target_input_indexes]


class SubFromConstant(Primitive):
    """See `sub`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (self.value - inputs[0],)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (-grad_outputs[0],)


class Mul(_Binary):
    """See `mul`."""

    name = "mul"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0, 1))
        a, b = inputs
        return (a * b,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        kept = self.kept_inputs(gy)
        return [_fit(gy * kept[1 - i], self.inputs[i]) for i in target_input_indexes]


class MulConstant(Primitive):
    """See `mul`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (inputs[0] * self.value,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (grad_outputs[0] * self.value,)


class Div(_Binary):
    """See `div`."""

    name = "div"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0, 1))
        a, b = inputs
        return (a / b,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        a, b = self.kept_inputs(gy)
        g = gy / b
        return [_fit(-g * a / b if i else g, self.inputs[i]) for i in target_input_indexes]


class DivByConstant(Primitive):
    """See `div`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (inputs[0] / self.value,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (grad_outputs[0] / self.value,)


class DivFromConstant(Primitive):
    """See `div`."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        return (self.value / inputs[0],)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        return (-self.value * gy / (x * x),)


class Neg(Primitive):
    """See `neg`."""

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (-inputs[0],)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (-grad_outputs[0],)


class Absolute(Primitive):
    """See `absolute`."""

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        return (abs(inputs[0]),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        array = as_array(x)
        return (gy * get_array_module(array).sign(array),)


class PowConstant(Primitive):
    """See `pow`."""

    def __init__(self, exponent: Any) -> None:
        self.exponent = exponent

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        self.retain_inputs((0,))
        return (x * x if self.exponent == 2 else x**self.exponent,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        p = self.exponent
        if p == 0:  # 0 * x**-1 would be NaN at 0
            return (gy * 0,)
        return (gy * p if p == 1 else gy * (x * p) if p == 2 else gy * (x ** (p - 1) * p),)


class Pow(_Binary):
    """See `pow`."""

    name = "pow"

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0, 1))
        a, b = inputs
        return (a**b,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        a, b = self.kept_inputs(gy)
        gxs = []
        for i in target_input_indexes:
            if i == 0:
                gxs.append(_fit(gy * b * a ** (b - 1), self.inputs[0]))
            else:
                gxs.append(_fit(gy * LogOfBase().on(a) * a**b, self.inputs[1]))
        return gxs


class LogOfBase(Primitive):
    """Logarithm of the base of a power; 0 for base 0, whose powers do not change with a positive exponent."""

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        self.retain_inputs((0,))
        xp = get_array_module(x)
        return (xp.log(xp.where(x == 0, x.dtype.type(1), x)),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (x,) = self.kept_inputs(gy)
        return (gy / x,)


class PowOfConstant(Primitive):
    """See `pow`."""

    def __init__(self, base: Any) -> None:
        self.base = base

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_outputs((0,))
        return (self.base ** inputs[0],)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        return (gy * y * float(np.log(self.base)) if self.base else gy * 0,)


def _constant(function: str, x: Any) -> Any:
    """A Python number if x is a scalar, which then takes the dtype of the array beside it; None if it is an array."""
    if isinstance(x, np.generic):  # before float, which float64 is a subclass of
        return x.item()
    if isinstance(x, (float, int)):
        return x
    if isinstance(x, Number):
        raise refuse(function, "rhs", "a real number, an array or a Variable", type(x).__name__)
    if not hasattr(x, "dtype"):
        raise refuse(function, "rhs", "a number, an array or a Variable", type(x).__name__)
    return None


def of_one_dtype(a: Any, b: Any) -> tuple[Any, Any]:
    """Both operands in dtypes whose common dtype is that of the Variable."""
    if a.dtype == b.dtype or a.dtype is None or b.dtype is None:  # None: a parameter without size, refused later
        return a, b
    if _gives_way(a, b):
        return a.astype(b.dtype), b
    return (a, b.astype(a.dtype)) if _gives_way(b, a) else (a, b)


def _gives_way(x: Any, other: Any) -> bool:
    return other.dtype.kind == "f" and (
        x.dtype.kind != "f" or (not isinstance(x, Variable) and isinstance(other, Variable))
    )


def add(*xs: Operand) -> Variable:
    """Sum of two or more arrays or numbers, element by element.

    Raises:
        InvalidType: the shapes do not broadcast together.
    """
    total: Any = xs[0]
    for x in xs[1:]:
        if (value := _constant("add", x)) is not None:
            total = AddConstant(value).apply1(total)
        elif (value := _constant("add", total)) is not None:
            total = AddConstant(value).apply1(x)
        else:
            total = Add().apply(of_one_dtype(total, x))[0]
    return as_variable(total)


def sub(lhs: Operand, rhs: Operand) -> Variable:
    """Difference of two arrays or numbers, element by element.

    Raises:
        InvalidType: the shapes do not broadcast together.
    """
    if (value := _constant("sub", rhs)) is not None:
        return AddConstant(-value).apply1(lhs)
    if (value := _constant("sub", lhs)) is not None:
        return SubFromConstant(value).apply1(rhs)
    return Sub().apply(of_one_dtype(lhs, rhs))[0]


def mul(lhs: Operand, rhs: Operand) -> Variable:
    """Product of two arrays or numbers, element by element.

    Raises:
        InvalidType: the shapes do not broadcast together.
    """
    if (value := _constant("mul", rhs)) is not None:
        return MulConstant(value).apply1(lhs)
    if (value := _constant("mul", lhs)) is not None:
        return MulConstant(value).apply1(rhs)
    return Mul().apply(of_one_dtype(lhs, rhs))[0]


def div(lhs: Operand, rhs: Operand) -> Variable:
    """Quotient of two arrays or numbers, element by element.

    Raises:
        InvalidType: the shapes do not broadcast together.
    """
    if (value := _constant("div", rhs)) is not None:
        return DivByConstant(value).apply1(lhs)
    if (value := _constant("div", lhs)) is not None:
        return DivFromConstant(value).apply1(rhs)
    return Div().apply(of_one_dtype(lhs, rhs))[0]


def pow(lhs: Operand, rhs: Operand) -> Variable:
    """Power of two arrays or numbers, element by element.

    Raises:
        InvalidType: the shapes do not broadcast together.
    """
    if (value := _constant("pow", rhs)) is not None:
        return PowConstant(value).apply1(lhs)
    if (value := _constant("pow", lhs)) is not None:
        return PowOfConstant(value).apply1(rhs)
    return Pow().apply(of_one_dtype(lhs, rhs))[0]


def neg(x: Variable | Array) -> Variable:
    """The negative of every element."""
    return Neg().apply1(x)


def absolute(x: Variable | Array) -> Variable:
    """The absolute value of every element; the gradient at 0 is 0."""
    return Absolute().apply1(x)


install(add=add, sub=sub, mul=mul, div=div, pow=pow, neg=neg, absolute=absolute)
