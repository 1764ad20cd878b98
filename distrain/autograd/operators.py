"""Where Variable's operators find their functions.

`Variable` lives below the functions, yet `x + y` must call one of them. The functions enter themselves here when
`distrain.functions` is imported, so that the dependency points down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

table: dict[str, Callable[..., Any]] = {}


def install(**functions: Callable[..., Any]) -> None:
    """Enters functions under the names of the operators that call them."""
    table.update(functions)
