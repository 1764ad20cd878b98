"""The base of initializers, and what may stand for one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distrain import backend
from distrain.backend import Array
from distrain.config import config
from distrain.errors import ArgumentError


class Initializer:
    """Fills arrays.

    Args:
        dtype: dtype of the parameter it is given to; None is `config.dtype`.
    """

    def __init__(self, dtype: DTypeLike | None = None) -> None:
        self.dtype = dtype

    def __call__(self, array: Array) -> None:
        """Fills the array in place."""
        raise NotImplementedError


def fans(shape: tuple[int, ...]) -> tuple[int, int]:
    """Inputs and outputs of a unit with weights of that shape: `(out, in, *kernel)`.

    Raises:
        ArgumentError: fewer than two axes.
    """
    if len(shape) < 2:
        raise ArgumentError(
            f"this initializer scales by the number of inputs and needs at least 2 axes (out, in, …), "
            f"but the shape is {shape}; use Normal, Uniform or a constant"
        )
    kernel = int(np.prod(shape[2:], dtype=np.int64))
    return shape[1] * kernel, shape[0] * kernel


def fan(shape: tuple[int, ...], option: str) -> int:
    """Number of inputs ("fan_in") or outputs ("fan_out") of a unit.

    Raises:
        ArgumentError: another option.
    """
    if option not in ("fan_in", "fan_out"):
        raise ArgumentError(f"fan_option must be 'fan_in' or 'fan_out', not {option!r}")
    return fans(shape)[option == "fan_out"]


def generate_array(initializer: Any, shape: tuple[int, ...], xp: Any = np, dtype: DTypeLike | None = None) -> Array:
    """A new array filled by an initializer, on the host or (`xp=cupy`) on the current GPU."""
    array = np.empty(shape, dtype or getattr(initializer, "dtype", None) or config.dtype)
    if callable(initializer):
        initializer(array)
    else:
        array[...] = initializer
    return array if xp is np else xp.asarray(backend.to_cpu(array))
