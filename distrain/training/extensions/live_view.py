"""An extension that shows the whole training on a terminal while it runs."""

from __future__ import annotations

import time
from collections.abc import Iterable
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from distrain import minibatch
from distrain.training.extension import Extension, RunsOn
from distrain.training.extensions import pace, rank_table, terminal

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_LINE_INTERVAL_S = 10.0  # between two lines where there is no terminal
_SHORTEST_S = 0.25  # between two drawings
_LONGEST_S = 2.0  # also where drawing takes long
_PATIENCE = 50  # times as long as a drawing takes, is the pause after it: no more than 2 % of the time
_NAMES = 34  # columns for the names of the figures
_FIGURE = 12  # columns of a figure
_PLACES = ("iteration", "epoch", "elapsed_time")  # of an entry: where it is, and no figure


class LiveView(Extension):
    """Shows progress, speed, the last figures and the ranks in one view on the terminal of rank 0.

        trainer.extend(extensions.LogReport())
        trainer.extend(extensions.LiveView())

    The figures are the last entries of LogReport, as many as the terminal is wide. On several ranks there is a line for
    each: what it does, how long an iteration takes it, and how much of that it waits for data or for other ranks; the
    one that holds up the others is called straggler. When the training has ended the last view stays.

    Where there is no terminal it prints a line every 10 seconds, and one whenever a rank is silent, has failed or lags
    behind. It takes the place of PrintReport and ProgressBar.

    Args:
        entries: names of the figures to show; None shows all but times of phases.
        log_report: name of the LogReport in the trainer; the view works without.
        training_length: `(number, unit)` like a trigger; what stops the training by default.
        quiet: show nothing at all, as for the option `--quiet` of a script.
        out: where to show it; standard output by default.
    """

    runs_on: RunsOn = "rank0"

    def __init__(
        self,
        entries: Iterable[str] | None = None,
        log_report: str = "LogReport",
        training_length: tuple[float, str] | None = None,
        *,
        quiet: bool = False,
        out: IO[str] | None = None,
    ) -> None:
        self._entries = None if entries is None else list(entries)
        self._log_report = log_report
        self._training_length = training_length
        self._quiet = quiet
        self._out = out
        self._trainer: Trainer | None = None
        self._live: Any = None
        self._pause = _SHORTEST_S
        self._said: dict[int, str] = {}
        self._has_failed = False

    def initialize(self, trainer: Trainer) -> None:
        """Notes where the training starts."""
        self._out = terminal.stream(self._out)
        self._is_terminal = terminal.is_terminal(self._out)
        self._pace = pace.Pace(trainer, time.monotonic(), self._training_length)
        self._trainer = trainer

    def __call__(self, trainer: Trainer) -> None:
        """Shows what there is, if it is time."""
        if self._quiet:
            return
        now = time.monotonic()
        waited = now - self._pace.shown
        if not self._is_terminal:
            if waited >= _LINE_INTERVAL_S:
                self._print(trainer, now)
        elif waited >= self._pause:
            self._draw(trainer, now)
            self._pause = min(max(_SHORTEST_S, _PATIENCE * (time.monotonic() - now)), _LONGEST_S)

    def _print(self, trainer: Trainer, now: float) -> None:
        """A line about the training, and one for each rank of which there is something new to say."""
        out = terminal.stream(self._out)
        log = self._log(trainer, 1)
        words = [pace.line(trainer, self._pace.look(trainer, now))]
        words += [f"{name} {_number(log[-1][name])}" for name in self._names(log)]
        out.write(", ".join(words) + "\n")
        said = rank_table.sentences(getattr(trainer, "rank_states", []))
        keys = {rank: text.partition(", ")[0] for rank, text in said.items()}  # its state, without the iteration
        for rank, text in said.items():
            if self._said.get(rank) != keys[rank]:
                out.write(text + "\n")
        self._said = keys
        out.flush()

    def _draw(self, trainer: Trainer, now: float) -> None:
        if self._live is None:
            from rich.live import Live

            console = terminal.console(terminal.stream(self._out))
            self._live = Live(console=console, auto_refresh=False)
            self._live.start()
        self._live.update(self._picture(trainer, now), refresh=True)

    def _picture(self, trainer: Trainer, now: float) -> Any:
        from rich.console import Group

        width, height = self._live.console.size
        parts = [*self._progress(trainer, now, width)]
        log = self._log(trainer, max(1, (width - _NAMES) // _FIGURE))
        names = self._names(log)
        states = getattr(trainer, "rank_states", [])
        shown = states if len(states) > 1 else []
        room = height - len(parts) - 3  # with the blank lines, and the cursor's
        for_ranks = min(len(shown) + 1, max(3, room - len(names) - 1)) if shown else 0
        if log:
            parts += ["", self._figures(log, names, max(1, room - for_ranks - 2))]
        if shown:
            parts += ["", rank_table.table(shown, width, for_ranks)]
        return Group(*parts)

    def _progress(self, trainer: Trainer, now: float, width: int) -> list[Any]:
        from rich.progress_bar import ProgressBar as Bar
        from rich.table import Table
        from rich.text import Text

        progress = self._pace.look(trainer, now)
        updater = trainer.updater
        bars = Table.grid(padding=(0, 1))
        shares = (("training", progress.part), ("epoch", updater.epoch_detail - updater.epoch))
        for title, share in shares:
            if share is not None:
                bars.add_row(
                    f"{title:>8}", Bar(total=1.0, completed=share, width=min(width - 20, 100)), f"{share:7.2%}"
                )
        length, unit = self._pace.length or (0, "")
        of = {unit: f" of {length:,g}"}
        words = [f"iteration {updater.iteration:,}{of.get('iteration', '')}"]
        words += [f"epoch {updater.epoch_detail:.2f}{of.get('epoch', '')}"]
        words += [] if progress.left is None else [f"{progress.left} left"]
        words += [f"{pace.rounded(progress.speed)} iterations/s"]
        batch = minibatch.current()
        words += [] if batch is None else [f"{pace.rounded(progress.speed * batch.total)} samples/s"]
        return [bars, Text(" · ".join(words), no_wrap=True, overflow="ellipsis")]

    def _figures(self, log: list[dict[str, Any]], names: list[str], most: int) -> Any:
        from rich.table import Table

        table = Table(box=None, padding=(0, 1), pad_edge=False, header_style="dim")
        table.add_column("iteration", no_wrap=True, overflow="ellipsis", max_width=_NAMES - 1)
        for entry in log:
            table.add_column(f"{entry.get('iteration', '')}", justify="right", no_wrap=True, min_width=_FIGURE - 2)
        for name in names[:most]:
            table.add_row(name, *(_number(entry.get(name)) for entry in log))
        return table

    def _log(self, trainer: Trainer, n: int) -> list[dict[str, Any]]:
        """The last entries of the log."""
        found = [one for one in trainer.extensions() if getattr(one, "name", None) == self._log_report]
        return list(found[0].log[-n:]) if found else []

    def _names(self, log: list[dict[str, Any]]) -> list[str]:
        if self._entries is not None:
            return [name for name in self._entries if any(name in entry for entry in log)]
        return [name for entry in log[-1:] for name in entry if name not in _PLACES and not name.startswith("time/")]

    def on_error(self, trainer: Trainer, exc: BaseException, tb: TracebackType | None) -> None:
        """Ends the view, so that the message appears below it."""
        self._has_failed = True
        self._close()

    def finalize(self) -> None:
        """Shows the end; the view stays."""
        trainer, now = self._trainer, time.monotonic()
        if trainer is None or self._quiet:
            return
        if trainer.updater.iteration > max(self._pace.shown_iteration, 0):
            if not self._is_terminal:
                self._print(trainer, now)
            elif not self._has_failed:
                self._draw(trainer, now)
        self._close()

    def _close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def _number(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, (int, float)) else ""
