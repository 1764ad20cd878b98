"""How long a rank may wait before it is worth a word; pure."""

from __future__ import annotations

from collections import defaultdict, deque

_FACTOR = 5
_TAIL = 0.01
_KEPT = 1000


class Deadlines:
    """Limits for the waits of one rank, by kind of operation: those that usually take long may take long.

    The limit is five times the 99th percentile of past waits, and never less than the floor.

    Args:
        floor_s: seconds.
    """

    def __init__(self, floor_s: float) -> None:
        self.floor_s = floor_s
        self._long: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=_KEPT))

    def add(self, kind: str, seconds: float) -> None:
        """Takes note of a wait that has ended. Waits that are short beside the floor need not be told."""
        self._long[kind].append(seconds)

    def limit_s(self, kind: str, calls: int) -> float:
        """Seconds that a wait may last.

        Args:
            kind: of the operation.
            calls: how many of that kind there have been, those included that nobody has told.
        """
        longest = sorted(self._long.get(kind, ()), reverse=True)
        rank = int(_TAIL * calls)  # so many may be longer
        return max(self.floor_s, _FACTOR * longest[rank]) if rank < len(longest) else self.floor_s
