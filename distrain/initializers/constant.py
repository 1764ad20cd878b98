"""Constant first numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distrain import backend
from distrain.backend import Array
from distrain.errors import ArgumentError
from distrain.initializers.initializer import Initializer


class Constant(Initializer):
    """A number, or an array of the parameter's shape."""

    def __init__(self, fill_value: Any, dtype: DTypeLike | None = None) -> None:
        self.fill_value = fill_value
        super().__init__(dtype)

    def __call__(self, array: Array) -> None:
        """Fills the array in place."""
        value = backend.to_cpu(self.fill_value)
        if np.ndim(value) and np.shape(value) != array.shape:
            raise ArgumentError(
                f"the initial array has shape {np.shape(value)}, but the parameter needs shape {array.shape}"
            )
        array[...] = value


class Zero(Constant):
    """Zeros."""

    def __init__(self, dtype: DTypeLike | None = None) -> None:
        super().__init__(0.0, dtype)


class One(Constant):
    """Ones."""

    def __init__(self, dtype: DTypeLike | None = None) -> None:
        super().__init__(1.0, dtype)


class NaN(Constant):
    """NaN: numbers that must be set before they are used."""

    def __init__(self, dtype: DTypeLike | None = None) -> None:
        super().__init__(np.nan, dtype)


def get_initializer(initializer: Any, default: Initializer) -> Any:
    """What a link does with its `initialW`.

    None is the default. An array is copied into the parameter, in the dtype of the model. A number or a callable is
    itself.
    """
    if initializer is None:
        return default
    if isinstance(initializer, (np.ndarray, list, tuple)) or backend.is_gpu_array(initializer):
        return Constant(initializer)
    return initializer
