"""Changing the dtype."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distrain.autograd import Primitive, Variable, as_variable
from distrain.autograd.operators import install
from distrain.backend import Array


class Cast(Primitive):
    """See `cast`."""

    def __init__(self, dtype: DTypeLike) -> None:
        self.dtype = dtype

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        return (inputs[0].astype(self.dtype),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        return (grad_outputs[0].astype(self.inputs[0].dtype),)


def cast(x: Variable | Array, typ: DTypeLike) -> Variable:
    """The same numbers as another dtype."""
    dtype = np.dtype(typ)
    return as_variable(x) if x.dtype == dtype else Cast(dtype).apply1(x)


install(cast=cast)
