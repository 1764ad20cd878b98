"""The launcher's standard output and error, and the end of what each rank has printed."""

from __future__ import annotations

import os
import re
import select
import shutil
from collections.abc import Collection

from distrain_launch.report import Rank
from distrain_launch.screen import Screen

_TAIL_BYTES = 2**14
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
OUT, ERR = 1, 2


class Output:
    """Where the output of the ranks goes.

    Args:
        shown: the ranks whose output is shown; None: all.

    Attributes:
        one_stream: standard output and error end in the same place, so their order can be kept.
        terminal: columns and lines of the terminal on which standard output ends; None: it is none.
        is_broken: nobody reads standard output any more.
    """

    def __init__(self, shown: Collection[int] | None = None) -> None:
        self.shown = shown
        self.one_stream = os.path.sameopenfile(OUT, ERR)
        self.terminal = _terminal(OUT)
        self.is_broken = False
        out = self._screen(OUT)
        self.screens = {OUT: out, ERR: out if self.one_stream else self._screen(ERR)}
        self.tails: dict[int, bytes] = {}

    def _screen(self, stream: int) -> Screen:
        size = _terminal(stream)
        return Screen(lambda data: self._write(stream, data), size, size is not None and not os.environ.get("NO_COLOR"))

    def take(self, rank: Rank, stream: int, data: bytes) -> None:
        """Takes what a rank has printed."""
        self.tails[rank.rank] = (self.tails.get(rank.rank, b"") + data)[-_TAIL_BYTES:]
        if self.shown is None or rank.rank in self.shown:
            self.screens[stream].show(rank.rank, rank.host, data)

    def say(self, lines: str) -> None:
        """Shows whole lines of the launcher itself."""
        self.screens[ERR].insert(lines.encode())

    def last_lines(self, rank: int) -> list[str]:
        """What a rank has printed last, as it would stand on a terminal."""
        text = _CONTROL.sub("", self.tails.get(rank, b"").decode(errors="replace"))
        lines = [line.rstrip("\r").rpartition("\r")[2].rstrip() for line in text.split("\n")]
        return [line for line in lines if line]

    def close(self) -> None:
        """Shows what is left."""
        for screen in self.screens.values():
            screen.close()

    def _write(self, stream: int, data: bytes) -> None:
        try:
            while data:
                try:
                    data = data[os.write(stream, data) :]
                except BlockingIOError:  # somebody else has made the terminal so
                    select.select([], [stream], [])
        except BrokenPipeError:
            self.is_broken = True
        except OSError:  # the terminal is gone, which the signal that comes with it decides upon; or the disk is full
            return


def _terminal(stream: int) -> tuple[int, int] | None:
    if not os.isatty(stream) or os.environ.get("TERM", "") in ("", "dumb", "unknown"):
        return None
    columns, lines = os.get_terminal_size(stream)
    fallback = shutil.get_terminal_size()
    return columns or fallback.columns, lines or fallback.lines
