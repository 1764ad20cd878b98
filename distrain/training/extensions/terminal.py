"""The terminal that tables and progress bars share."""

from __future__ import annotations

import functools
import os
import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


_SIZE = "DISTRAIN_TERMINAL"  # "80x24": `distrain run` says that standard output, a pipe here, ends on a terminal


def stream(out: IO[str] | None) -> IO[str]:
    """The stream itself, standard output for None; never the stand-in that a progress bar puts in its place."""
    out = out or sys.stdout
    proxied: Any = getattr(out, "rich_proxied_file", out)
    return proxied  # type: ignore[no-any-return]


def is_terminal(out: IO[str]) -> bool:
    """Whether a stream is a terminal that understands control characters."""
    reaches_one = out.isatty() or (_SIZE in os.environ and out is sys.__stdout__)
    return reaches_one and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


@functools.lru_cache(maxsize=4)
def console(out: IO[str]) -> Console:
    """The one console of a terminal: what is printed through it appears above a progress bar that is shown there."""
    from rich.console import Console

    if out.isatty():
        return Console(file=out)
    columns, lines = map(int, os.environ[_SIZE].split("x"))
    return Console(file=out, force_terminal=True, width=columns, height=lines)
