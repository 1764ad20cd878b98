"""What the ranks print, on one stream: whole lines of the others between what rank 0 prints.

On a terminal rank 0 appears byte by byte, so that its progress bars live. A bar is text without an end of line that
will be drawn over. Before a line of another rank is written the bar is taken away, and after it the bar is put back.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

_LONGEST = 2**16  # bytes of a line; a longer one is written in parts
_ERASE = re.compile(
    rb"\r(?:\x1b\[[0-9]*[AFK])*"
)  # to the start of the line, and perhaps up and away with what was there
_CONTROL = re.compile(rb"\x1b\[[0-?]*[ -/]*[@-~]")
_COLOURS = (36, 33, 35, 32, 34, 31)


class Lines:
    """Cuts what comes into whole lines.

    Args:
        ends: the end of a line; with the carriage return among them each state of a progress bar is one.
    """

    def __init__(self, ends: bytes = b"\n") -> None:
        self._end = re.compile(b"[" + ends + b"]")
        self._rest = b""

    def take(self, data: bytes) -> bytes:
        """The lines that are complete with this piece, ends included."""
        data = self._rest + data
        last = max((found.end() for found in self._end.finditer(data)), default=0)
        if len(data) - last > _LONGEST:
            last = len(data)
        self._rest = data[last:]
        return data[:last]

    def rest(self) -> bytes:
        """What is left without an end; then nothing is left."""
        rest, self._rest = self._rest, b""
        return rest


class Screen:
    """One stream of the launcher.

    Args:
        write: takes what is to be shown.
        size: columns and lines of the terminal; None: it is none.
        is_coloured: whether the names of ranks are.
    """

    def __init__(
        self, write: Callable[[bytes], None], size: tuple[int, int] | None = None, is_coloured: bool = False
    ) -> None:
        self._write = write
        self._size = size
        self._is_coloured = is_coloured
        self._first = Lines(b"\r\n")
        self._others: dict[int, tuple[Lines, str]] = {}
        self._bar = b""  # what rank 0 has written since the terminal was last at the start of an empty line
        self._hides_cursor = False

    def show(self, rank: int, host: str, data: bytes) -> None:
        """Shows what a rank has printed: now, or when its line is complete."""
        if rank:
            lines, _ = self._others.setdefault(rank, (Lines(), host))
            self.insert(self._prefixed(rank, host, lines.take(data)))
        elif self._size is None:
            self._write(self._first.take(data))
        else:
            self._write(data)
            self._follow(data)

    def _follow(self, data: bytes) -> None:
        """Keeps the bar up to date with what rank 0 has written."""
        self._bar += data
        for found in reversed(list(_ERASE.finditer(self._bar))):
            after = self._bar[found.end() : found.end() + 1]
            if after != b"\n" and (after or found[0] != b"\r"):  # "\r" alone: the text is still there
                self._bar = self._bar[found.end() :]
                break
        cursor = max(data.rfind(b"\x1b[?25l"), data.rfind(b"\x1b[?25h"))
        if cursor >= 0:
            self._hides_cursor = data[cursor + 5 : cursor + 6] == b"l"
        if _CONTROL.sub(b"", self._bar).endswith(b"\n"):
            self._bar = b""

    def insert(self, lines: bytes) -> None:
        """Shows whole lines above what rank 0 draws over."""
        if not lines:
            return
        if not self._bar or self._size is None:
            self._write(lines)
            return
        rows = self._rows()
        if rows >= self._size[1]:  # too high to be taken away: it stays, and starts anew below
            self._write(b"\n" + lines + self._bar)
        else:
            self._write(b"\r\x1b[2K" + b"\x1b[1A\x1b[2K" * (rows - 1) + lines + self._bar)

    def _rows(self) -> int:
        assert self._size is not None
        texts = _CONTROL.sub(b"", self._bar).decode(errors="replace").split("\n")
        return sum(max(1, math.ceil(len(text.rsplit("\r", 1)[-1]) / self._size[0])) for text in texts)

    def _prefixed(self, rank: int, host: str, lines: bytes) -> bytes:
        if not lines:
            return b""
        name = f"[{host.partition('.')[0]}:{rank}]"
        if self._is_coloured:
            name = f"\x1b[{_COLOURS[rank % len(_COLOURS)]}m{name}\x1b[0m"
        texts = lines.removesuffix(b"\n").split(b"\n")  # of what was drawn over, a line keeps the last state
        return b"".join(name.encode() + b" " + text.rstrip(b"\r").rpartition(b"\r")[2] + b"\n" for text in texts)

    def close(self) -> None:
        """Shows what has no end of line; leaves the terminal at the start of a line with its cursor on."""
        for rank, (lines, host) in sorted(self._others.items()):
            self.insert(self._prefixed(rank, host, lines.rest()))
        self._write(self._first.rest())
        if self._bar and self._size is not None:
            self._write(b"\n")
        if self._hides_cursor:
            self._write(b"\x1b[?25h")
        self._bar, self._hides_cursor = b"", False
