"""A reported value without the graph that led to it."""

from __future__ import annotations

from typing import Any

from distrain import backend


class Detached:
    """The number that a Variable held when it was reported.

    It keeps the array and lets the graph go. It reads like the Variable (`.array`, `.data`, `.dtype` …) and like a
    number (`float()`, formatting).

    Attributes:
        array: the Variable's own array, not a copy.
    """

    __slots__ = ("array",)

    def __init__(self, array: Any) -> None:
        self.array = array

    @property
    def data(self) -> Any:
        """The same as `array`."""
        return self.array

    @property
    def dtype(self) -> Any:
        """The dtype of the array."""
        return self.array.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array, `()` for a number."""
        shape: tuple[int, ...] = self.array.shape
        return shape

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self.array.shape)

    def item(self) -> Any:
        """The Python number; waits for the GPU if it is there."""
        return self.array.item()

    def __float__(self) -> float:
        return float(self.array)

    def __int__(self) -> int:
        return int(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        array = backend.to_cpu(self.array)
        return array.astype(dtype, copy=bool(copy)) if dtype is not None else array.copy() if copy else array

    def __format__(self, spec: str) -> str:
        return format(self.item() if self.array.size == 1 else self.array, spec)

    def __repr__(self) -> str:
        return f"Detached({self.array!r})"
