"""Mean squared error, the loss of regression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.autograd import Primitive, Variable
from distrain.autograd.type_check import describe, expect_float, expect_same, refuse
from distrain.backend import Array


class MeanSquaredError(Primitive):
    """See `mean_squared_error`."""

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        x0, x1 = in_types
        expect_float("mean_squared_error", "x0", x0)
        expect_same("mean_squared_error", "x1", x1, x0, "x0")
        if x1.dtype != x0.dtype:
            raise refuse("mean_squared_error", "x1", f"the dtype of x0, {x0.dtype}", describe(x1))

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        self.retain_inputs((0, 1))
        x0, x1 = inputs
        difference = (x0 - x1).reshape(-1)
        return (difference.dot(difference) / max(1, x0.size),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x0, x1 = self.kept_inputs(gy)
        gx = (x0 - x1) * (gy * (2.0 / max(1, x0.size)))
        return [-gx if i else gx for i in target_input_indexes]


def mean_squared_error(x0: Variable | Array, x1: Variable | Array) -> Variable:
    """Mean of `(x0 - x1) ** 2` over all elements.

    Args:
        x0: any shape, floating point.
        x1: shape and dtype of x0.

    Returns:
        A scalar.

    Raises:
        InvalidType: shapes or dtypes differ.
    """
    return MeanSquaredError().apply((x0, x1))[0]
