"""An extension that prints the log as a table."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.training.extension import Extension
from distrain.training.extensions import terminal
from distrain.training.extensions.log_report import LogReport

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_WIDTH = 10  # of a column whose title is not longer


class PrintReport(Extension):
    """Prints a row of values for each entry of the log, on rank 0.

        trainer.extend(extensions.LogReport())
        trainer.extend(extensions.PrintReport(["epoch", "main/loss", "validation/main/loss", "elapsed_time"]))

    A value that an entry does not have is left blank. On a terminal that is too narrow for the titles they are broken
    at their slashes.

    Args:
        entries: names of the values, in the order of the columns.
        log_report: name of the LogReport in the trainer, or a LogReport of its own, which then need not be registered.
        out: where to print; standard output by default.

    Raises:
        ArgumentError: `log_report` is neither.
    """

    def __init__(
        self, entries: Sequence[str], log_report: str | LogReport = "LogReport", out: IO[str] | None = None
    ) -> None:
        if not isinstance(log_report, (str, LogReport)):
            raise ArgumentError(f"log_report must be the name of a LogReport or a LogReport, not {log_report!r}")
        self._entries = list(entries)
        self._log_report = log_report
        self._out = out
        self._widths = [max(_WIDTH, len(entry)) for entry in self._entries]
        self._printed = 0
        self._has_header = False
        self._log: Sequence[dict[str, Any]] = []
        self._looked_for_missing = False
        self.runs_on = "all" if isinstance(log_report, LogReport) else "rank0"

    @property
    def comm(self) -> Communicator | None:
        """The ranks of its own LogReport, if it has one; None is those of the trainer."""
        return self._log_report.comm if isinstance(self._log_report, LogReport) else None

    @comm.setter
    def comm(self, comm: Communicator) -> None:
        if isinstance(self._log_report, LogReport):
            self._log_report.comm = comm

    def initialize(self, trainer: Trainer) -> None:
        """Fits the columns to the terminal."""
        self._out = terminal.stream(self._out)
        if isinstance(self._log_report, LogReport):
            self._log_report.initialize(trainer)
        if terminal.is_terminal(self._out):
            width = terminal.console(self._out).width
            if sum(self._widths) + 2 * len(self._widths) > width:
                self._widths = [max(_WIDTH, *map(len, _broken(entry))) for entry in self._entries]

    def __call__(self, trainer: Trainer) -> None:
        """Prints what has come to the log since the last call."""
        if isinstance(self._log_report, LogReport):
            self._log_report(trainer)
            log = self._log_report.log
        else:
            log = trainer.get_extension(self._log_report).log
        if len(log) > self._printed or not self._has_header:
            self._log = log
            if (self.comm or trainer.comm).rank == 0:
                self._print_new_rows()

    def _print_new_rows(self) -> None:
        if not self._has_header:
            self._print_header()
            self._has_header = True
        for entry in self._log[self._printed :]:
            cells = [_cell(entry.get(name), width) for name, width in zip(self._entries, self._widths, strict=True)]
            self._print_line("".join(cells))
        self._printed = len(self._log)
        if self._log and self._log[-1].get("epoch", 1):  # evaluations come once an epoch
            self._warn_of_missing()

    def _print_header(self) -> None:
        full = all(width >= len(entry) for entry, width in zip(self._entries, self._widths, strict=True))
        titles = [[entry] if full else _broken(entry) for entry in self._entries]
        height = max(map(len, titles), default=0)
        for i in range(height):
            lines = [title[i - height] if height - i <= len(title) else "" for title in titles]
            cells = [f"{line:{width}}" for line, width in zip(lines, self._widths, strict=True)]
            self._print_line("  ".join(cells), "bold")

    def _print_line(self, line: str, style: str | None = None) -> None:
        out = terminal.stream(self._out)
        if terminal.is_terminal(out):
            terminal.console(out).print(line.rstrip(), style=style, markup=False, highlight=False, soft_wrap=True)
        else:
            out.write(line + "\n")
            out.flush()

    def _warn_of_missing(self) -> None:
        if self._looked_for_missing:
            return
        self._looked_for_missing = True
        known = list(dict.fromkeys(key for entry in self._log for key in entry))
        missing = [entry for entry in self._entries if entry not in known]
        if missing:
            warnings.warn(
                f"PrintReport has no value for {', '.join(map(repr, missing))} so far and leaves it blank; the log has "
                f"{', '.join(map(repr, known))}"
            )

    def gather(self) -> None:
        """See `LogReport.gather`."""
        if isinstance(self._log_report, LogReport):
            self._log_report.gather()

    def finalize(self) -> None:
        """Says which names were never found, if no epoch was completed."""
        if isinstance(self._log_report, LogReport):
            self._log_report.finalize()
        if self._log and self._printed:
            self._warn_of_missing()

    def serialize(self, serializer: Any) -> None:
        """Writes or reads its own LogReport, if it has one."""
        if isinstance(self._log_report, LogReport):
            self._log_report.serialize(serializer["_log_report"])


def _cell(value: Any, width: int) -> str:
    if value is None:
        return " " * (width + 2)
    return f"{value:<{width}g}  " if isinstance(value, (int, float)) else f"{value!s:<{width}}  "


def _broken(title: str) -> list[str]:
    """The lines of a title that is broken after its slashes: "main/loss" is "main/" and "loss"."""
    *heads, last = title.split("/")
    return [*(head + "/" for head in heads), last]
