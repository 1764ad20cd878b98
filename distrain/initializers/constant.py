"""Constant first numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from distrain.backend import Array
from distrain.initializers.initializer import Initializer


class Constant(Initializer):
    """A number, or an array of the parameter's shape."""

    def __init__(self, fill_value: Any, dtype: DTypeLike | None = None) -> None:
        self.fill_value = fill_value
        super().__init__(dtype)

    def __call__(self, array: Array) -> None:
        """Fills the array in place."""
        array[...] = self.fill_value


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
