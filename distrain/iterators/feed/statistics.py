"""What a feed has done so far, in numbers."""

from __future__ import annotations

import heapq
from collections import deque
from typing import Any

_SLOWEST = 5
_REMEMBERED = 20
_STRAGGLER_S = 1.0
_STRAGGLER = 100


class Statistics:
    """Counts, as cheaply as can be.

    Attributes:
        minibatches: that were handed out.
        wait_s: seconds that the rank has waited for them.
        last_wait_s: for the last one.
        samples: that were read.
        respawns: feeders that were replaced because they had died.
        joined, lost: feeders on other hosts that have come and gone.
        deaths: the last of those that died or were lost, as text.
        refused: messages that were malformed, unknown or late.
        refusals: the last of these, as text.
        spilled: pieces of work that were larger than their place in shared memory.
        stragglers: samples that took a second and a hundred times as long as others.
        straggler: the last of these, `(index, seconds)`, until somebody has told the user.
    """

    def __init__(self) -> None:
        self.minibatches = 0
        self.wait_s = 0.0
        self.last_wait_s = 0.0
        self.samples = 0
        self.respawns = 0
        self.joined = 0
        self.lost = 0
        self.deaths: deque[str] = deque(maxlen=_REMEMBERED)
        self.refused = 0
        self.refusals: deque[str] = deque(maxlen=_REMEMBERED)
        self.spilled = 0
        self.stragglers = 0
        self.straggler: tuple[int, float] | None = None
        self._busy_s = 0.0
        self._slowest: list[tuple[float, int]] = []
        self._work: dict[bytes, tuple[int, float]] = {}

    def note_wait(self, seconds: float) -> None:
        """A minibatch was asked for, and was there after so many seconds."""
        self.minibatches += 1
        self.wait_s += seconds
        self.last_wait_s = seconds

    def note_done(self, member: bytes, rows: int, seconds: float, slowest: float, index: int) -> None:
        """A feeder has read so many rows, the slowest sample in so many seconds."""
        if slowest > _STRAGGLER_S and self.samples and slowest > _STRAGGLER * self._busy_s / self.samples:
            self.stragglers += 1
            self.straggler = index, slowest
        self.samples += rows
        self._busy_s += seconds
        done, busy = self._work.get(member, (0, 0.0))
        self._work[member] = done + rows, busy + seconds
        if len(self._slowest) < _SLOWEST:
            heapq.heappush(self._slowest, (slowest, index))
        elif slowest > self._slowest[0][0]:
            heapq.heapreplace(self._slowest, (slowest, index))

    def note_respawn(self, number: int, pid: int, cause: str) -> None:
        """A feeder has died and is replaced."""
        self.respawns += 1
        self.deaths.append(f"feeder {number} (pid {pid}): {cause}")

    def note_lost(self, name: str, cause: str) -> None:
        """A feeder on another host is gone."""
        self.lost += 1
        self.deaths.append(f"{name}: {cause}")

    def note_refused(self, reason: str) -> None:
        """A message was refused."""
        self.refused += 1
        self.refusals.append(reason)

    def as_dict(self) -> dict[str, Any]:
        """All of it, and for every feeder how many samples a second it reads while it works."""
        rates = [done / busy for done, busy in self._work.values() if busy > 0]
        return {
            "minibatches": self.minibatches,
            "wait_s": self.wait_s,
            "last_wait_s": self.last_wait_s,
            "samples": self.samples,
            "samples_per_feeder_second": rates,
            "slowest_samples": [(index, seconds) for seconds, index in sorted(self._slowest, reverse=True)],
            "respawns": self.respawns,
            "joined": self.joined,
            "lost": self.lost,
            "deaths": list(self.deaths),
            "refused": self.refused,
            "refusals": list(self.refusals),
            "spilled": self.spilled,
            "stragglers": self.stragglers,
        }
