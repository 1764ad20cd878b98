"""Rectified linear units and their relatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable
from distrain.autograd.type_check import expect_float, refuse
from distrain.backend import Array, get_array_module
from distrain.functions.constants import host_zero


class ReLU(Primitive):
    """See `relu`."""

    _keep_outputs = (0,)

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        if in_types[0].dtype.kind != "f":
            expect_float("relu", "x", in_types[0])

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        if type(x) is np.ndarray:
            return (np.maximum(x, host_zero(x.dtype)),)
        return (get_array_module(x).maximum(x, 0),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        y = self._output_data[0]
        return (gy * (y > (host_zero(y.dtype) if type(y) is np.ndarray else 0)),)


class ClippedReLU(Primitive):
    """See `clipped_relu`."""

    def __init__(self, ceiling: float) -> None:
        self.ceiling = ceiling

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        expect_float("clipped_relu", "x", in_types[0])

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0,))
        return (inputs[0].clip(0, self.ceiling),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x = self._input_data[0]
        return (gy * ((x > 0) & (x < self.ceiling)),)


class LeakyReLU(Primitive):
    """See `leaky_relu`."""

    def __init__(self, slope: float) -> None:
        self.slope = slope

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        expect_float("leaky_relu", "x", in_types[0])

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        self.retain_inputs((0,))
        return (get_array_module(x).where(x >= 0, x, x * self.slope),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x = self._input_data[0]
        return (gy * get_array_module(x).where(x >= 0, x.dtype.type(1), x.dtype.type(self.slope)),)


class ELU(Primitive):
    """See `elu`."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        expect_float("elu", "x", in_types[0])
        if self.alpha < 0:
            raise refuse("elu", "alpha", "0 or more", str(self.alpha))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        (x,) = inputs
        xp = get_array_module(x)
        self.retain_inputs((0,))
        self.retain_outputs((0,))
        return (xp.where(x >= 0, x, xp.expm1(xp.minimum(x, 0)) * self.alpha),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        (y,) = self.kept_outputs(gy)
        below = self._input_data[0] < 0
        # The slope is alpha * exp(x) = y + alpha below 0 and 1 elsewhere.
        return (gy * ((y + self.alpha) * below + ~below),)


def relu(x: Variable | Array) -> Variable:
    """`max(x, 0)`, element by element.

    Args:
        x: any shape, floating point.

    Raises:
        InvalidType: x is not of a floating point dtype.
    """
    return ReLU().apply((x,))[0]


def leaky_relu(x: Variable | Array, slope: float = 0.2) -> Variable:
    """x where it is positive, `slope * x` elsewhere.

    Raises:
        InvalidType: x is not of a floating point dtype.

    References:
        Maas et al., Rectifier Nonlinearities Improve Neural Network Acoustic Models, 2013.
    """
    return LeakyReLU(slope).apply1(x)


def elu(x: Variable | Array, alpha: float = 1.0) -> Variable:
    """x where it is positive, `alpha * (exp(x) - 1)` elsewhere.

    Raises:
        InvalidType: x is not of a floating point dtype, or alpha is negative.

    References:
        Clevert et al., Fast and Accurate Deep Network Learning by Exponential Linear Units, 2016.
    """
    return ELU(alpha).apply1(x)


def clipped_relu(x: Variable | Array, z: float = 20.0) -> Variable:
    """`min(max(x, 0), z)`, element by element.

    Raises:
        InvalidType: x is not of a floating point dtype, or z is negative.
    """
    if z < 0:
        raise refuse("clipped_relu", "z", "0 or more", str(z))
    return ClippedReLU(z).apply1(x)
