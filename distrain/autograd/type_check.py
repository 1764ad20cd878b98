"""Messages for inputs that do not fit: which function, which argument, what was expected, what came."""

from __future__ import annotations

from typing import Any

from distrain.backend import Array
from distrain.errors import InvalidType


def describe(x: Any) -> str:
    """Shape and dtype of an array in words."""
    return f"shape {tuple(x.shape)}, {x.dtype}" if hasattr(x, "dtype") else type(x).__name__


def refuse(function: str, argument: str, expected: str, actual: str) -> InvalidType:
    """The exception for an argument that does not fit; the caller raises it."""
    return InvalidType(
        f"Invalid operation is performed in: {function} (Forward)\n\n"
        f"Argument: {argument}\nExpect: {expected}\nActual: {actual}"
    )


def expect_ndim(function: str, argument: str, x: Array, ndim: int) -> None:
    """Checks the number of axes.

    Raises:
        InvalidType: it is another one.
    """
    if x.ndim != ndim:
        raise refuse(function, argument, f"{ndim} axes", f"{x.ndim} axes ({describe(x)})")


def expect_float(function: str, argument: str, x: Array) -> None:
    """Checks that the dtype is a floating point type.

    Raises:
        InvalidType: it is not.
    """
    if x.dtype.kind != "f":
        raise refuse(function, argument, "a floating point dtype", describe(x))


def expect_integer(function: str, argument: str, x: Array) -> None:
    """Checks that the dtype is an integer type.

    Raises:
        InvalidType: it is not.
    """
    if x.dtype.kind not in "iu":
        raise refuse(function, argument, "an integer dtype", describe(x))


def expect_same(function: str, argument: str, x: Array, y: Array, what: str) -> None:
    """Checks that x has the shape of y.

    Raises:
        InvalidType: it has not.
    """
    if x.shape != y.shape:
        raise refuse(function, argument, f"the shape of {what}, {y.shape}", describe(x))
