"""A clock that stands still while this process cannot run.

The system's clocks go on while a process is stopped: by SIGSTOP, by Ctrl-Z, by a batch system that suspends a job. Who
measures the silence of others with one of them takes its own pause for theirs.
"""

from __future__ import annotations

import time


class AwakeClock:
    """Seconds as `time.monotonic` counts them, less those in which nobody could ask for them. For one thread.

    Args:
        longest_s: between two questions; of a longer time only so much counts.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._last = time.monotonic()
        self._paused_s = 0.0

    def __call__(self) -> float:
        """The time."""
        now = time.monotonic()
        self._paused_s += max(0.0, now - self._last - self._longest_s)
        self._last = now
        return now - self._paused_s
