"""An extension that shows how far the training is."""

from __future__ import annotations

import time
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from distrain.training.extension import Extension, RunsOn
from distrain.training.extensions import pace, terminal

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_LINE_INTERVAL_S = 5.0  # between two lines where there is no terminal
_SHORTEST_S = 0.1  # between two drawings
_LONGEST_S = 1.0  # without a drawing, while iterations are slow


class ProgressBar(Extension):
    """Shows a progress bar and the speed on a terminal; elsewhere prints a line every few seconds.

    Args:
        training_length: `(number, unit)` like a trigger; what stops the training by default.
        update_interval: iterations between two drawings. Fast ones are left out, slow ones come every second.
        bar_length: width of the bars in characters.
        out: where to show it; standard output by default.
    """

    runs_on: RunsOn = "rank0"

    def __init__(
        self,
        training_length: tuple[float, str] | None = None,
        update_interval: int = 100,
        bar_length: int = 50,
        out: IO[str] | None = None,
    ) -> None:
        self._training_length = training_length
        self._update_interval = update_interval
        self._bar_length = bar_length
        self._out = out
        self._live: Any = None
        self._trainer: Trainer | None = None
        self._pace: pace.Pace

    def initialize(self, trainer: Trainer) -> None:
        """Notes where the training starts."""
        self._out = terminal.stream(self._out)
        self._is_terminal = terminal.is_terminal(self._out)
        self._trainer = trainer
        self._pace = pace.Pace(trainer, time.monotonic(), self._training_length)

    def __call__(self, trainer: Trainer) -> None:
        """Shows the progress if it is time."""
        now = time.monotonic()
        waited = now - self._pace.shown
        if not self._is_terminal:
            if waited >= _LINE_INTERVAL_S:
                self._print_line(trainer, now)
        elif waited >= _LONGEST_S or (waited >= _SHORTEST_S and trainer.updater.iteration % self._update_interval == 0):
            self._draw(trainer, now)

    def _print_line(self, trainer: Trainer, now: float) -> None:
        out = terminal.stream(self._out)
        out.write(pace.line(trainer, self._pace.look(trainer, now)) + "\n")
        out.flush()

    def _draw(self, trainer: Trainer, now: float) -> None:
        if self._live is None:
            from rich.live import Live

            console = terminal.console(terminal.stream(self._out))
            self._live = Live(console=console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(self._picture(trainer, now), refresh=True)

    def _picture(self, trainer: Trainer, now: float) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        part, speed, left = self._pace.look(trainer, now)
        updater = trainer.updater
        bars = Table.grid(padding=(0, 1))
        width = max(10, min(self._bar_length, self._live.console.width - 20))
        for title, share in (("     total", part), ("this epoch", updater.epoch_detail - updater.epoch)):
            if share is not None:
                bars.add_row(title, Bar(total=1.0, completed=share, width=width), f"{share:7.2%}")
        length = f" / {self._pace.length[0]:g} {self._pace.length[1]}s" if self._pace.length else ""
        time_left = f" Estimated time to finish: {left}." if left is not None else ""
        return Group(
            bars,
            Text(f"{updater.iteration:10} iter, {updater.epoch} epoch{length}", no_wrap=True),
            Text(f"{pace.rounded(speed):>10} iters/sec.{time_left}", no_wrap=True),
        )

    def on_error(self, trainer: Trainer, exc: BaseException, tb: TracebackType | None) -> None:
        """Clears the bar, which would stand in the way of the message."""
        self._close()

    def finalize(self) -> None:
        """Clears the bar, or prints the last line."""
        self._close()
        trainer = self._trainer
        if trainer is None or self._is_terminal:
            return
        if trainer.updater.iteration > max(self._pace.shown_iteration, 0):
            self._print_line(trainer, time.monotonic())

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
