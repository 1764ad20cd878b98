"""Signals that the launcher reads when it has time for them."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Sequence
from types import FrameType, TracebackType

from distrain_launch.keeper import FORWARDED

ENDING = (signal.SIGINT, signal.SIGTERM)
_MOST = 64  # at once


class Signals:
    """A `with` block in which signals wait in a pipe; those that are ignored, as nohup leaves SIGHUP, stay so.

    Args:
        more: signals to hear besides those for the ranks.

    Attributes:
        pipe: can be read when there is one.
        ends: set it if the job is over because of a signal: another one is no news then, and is ignored from then on.
    """

    def __init__(self, more: Sequence[int] = ()) -> None:
        self.pipe, self._wakeup = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(self.pipe, False)
        self.ends = False
        self._previous = {number: signal.getsignal(number) for number in (*FORWARDED, *more)}
        self._previous_wakeup = -1

    def __enter__(self) -> Signals:
        for number, handler in self._previous.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _nothing)
        self._previous_wakeup = signal.set_wakeup_fd(self._wakeup, warn_on_full_buffer=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        signal.set_wakeup_fd(self._previous_wakeup)
        for number, handler in self._previous.items():
            signal.signal(number, signal.SIG_IGN if self.ends and number in ENDING else handler)
        os.close(self.pipe)
        os.close(self._wakeup)

    def read(self) -> bytes:
        """The numbers of the signals that have come."""
        try:
            return os.read(self.pipe, _MOST)
        except BlockingIOError:
            return b""

    def wait(self, seconds: float) -> int | None:
        """Waits; the signal that ends the wait, or None if the time has passed."""
        found, _, _ = select.select([self.pipe], [], [], seconds)
        numbers = self.read() if found else b""
        return next((number for number in numbers if number != signal.SIGCHLD), next(iter(numbers), None))


def _nothing(number: int, frame: FrameType | None) -> None:
    """A signal that is handled where the pipe is read."""
