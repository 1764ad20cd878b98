"""The terminal that tables and progress bars share."""

from __future__ import annotations

import functools
import os
import sys
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


def stream(out: IO[str] | None) -> IO[str]:
    """The stream itself, standard output for None; never the stand-in that a progress bar puts in its place."""
    out = out or sys.stdout
    proxied: Any = getattr(out, "rich_proxied_file", out)
    return proxied  # type: ignore[no-any-return]


def is_terminal(out: IO[str]) -> bool:
    """Whether a stream is a terminal that understands control characters."""
    return out.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


@functools.lru_cache(maxsize=4)
def console(out: IO[str]) -> Console:
    """The one console of a terminal: what is printed through it appears above a progress bar that is shown there."""
    from rich.console import Console

    return Console(file=out)
