"""What extensions that draw have in common: matplotlib, and not to spend the training's time on pictures."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from distrain.errors import ArgumentError
from distrain.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHARE = 0.005  # of the time may go into drawing, but for the first and the last picture


def is_available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def require_matplotlib(what: str) -> None:
    """Checks before the training what would be missing in the midst of it.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    if not is_available():
        raise ArgumentError(f"{what} needs matplotlib: pip install 'distrain[plot]'")


class Picture:
    """A picture file that is drawn anew as values come, and always shows the last ones in the end.

    Drawing takes longer than many steps of training. So a picture waits until two hundred times as long has passed as
    the last one took; `finish` draws the one that has waited. No display is needed.

    Args:
        draw: makes the figure.
    """

    def __init__(self, draw: Callable[[], Figure]) -> None:
        self._draw = draw
        self._next = 0.0
        self._waiting = ""

    def update(self, path: str) -> None:
        """Draws into a file, at once or later."""
        if self._waiting and self._waiting != path:
            self.finish()
        self._waiting = path
        if time.monotonic() >= self._next:
            self.finish()

    def finish(self) -> None:
        """Draws what has waited."""
        if not self._waiting:
            return
        path, self._waiting = self._waiting, ""
        start = time.monotonic()
        figure = self._draw()
        with atomic_write(path) as stream:
            figure.savefig(stream, format=path.rpartition(".")[2] if "." in path else "png")
        end = time.monotonic()
        self._next = end + (end - start) / _SHARE


def new_figure(width: float, height: float) -> Figure:
    """An empty figure that belongs to no window, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")
