"""Checks of arguments that several iterators take."""

from __future__ import annotations

import operator
from typing import Any

from distrain.errors import ArgumentError


def count(name: str, value: Any, least: int) -> int:
    """A whole number.

    Raises:
        ArgumentError: it is none, or smaller than `least`.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least or isinstance(value, bool):
        what = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ArgumentError(f"{name} must be {what}, not {value!r}")
    return number


def seconds(name: str, value: Any) -> float | None:
    """A time, or None.

    Raises:
        ArgumentError: it is neither.
    """
    if value is not None and (not isinstance(value, (int, float)) or isinstance(value, bool) or not value > 0):
        raise ArgumentError(f"{name} must be a positive number of seconds or None, not {value!r}")
    return None if value is None else float(value)
