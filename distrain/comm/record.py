"""What this process does together with other ranks, and what it did last.

Each thing that can wait (a communicator's collectives, its gradients, its messages) has a slot. Before a call of MPI
the slot is entered, and afterwards it is left. The watch (`watch.py`) reads the slots while the process lives; entries
in the black box (`distrain/black_box.py`) say the same when it has been killed.

A pair of calls takes 0.6 µs. Threads may use different slots at the same time.
"""

from __future__ import annotations

import itertools
import os
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from distrain import black_box
from distrain.comm.waits import Op

_clock, _pack_into = time.time, black_box.ENTRY.pack_into
_ENTRIES, _BYTES = black_box.ENTRIES, black_box.ENTRY.size
_DOUBLES = _BYTES // 8
_END = 2  # which double of an entry says when it ended

Name = tuple[int, int]
"""Of a communicator, the same on its ranks only: its rank 0's number in the job, and a count of that one."""


class _Entries:
    """The entries of this process. One that a rank has forked has its own, so that the rank's stay true."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.bytes = black_box.entries()
        self.doubles = self.bytes.cast("d")


_entries = _Entries()


def _forget() -> None:
    global _entries
    _entries = _Entries()


os.register_at_fork(after_in_child=_forget)


class Slot:
    """Where one thing that can wait says what it waits for.

    Args:
        describe: tells others what is in it.
        name: of the communicator.
        size: its ranks.
        lane: of `black_box`.

    Attributes:
        op: what it waits for; None while it does not wait.
        count: the last one that was entered, as `enter` was told.
        calls: by action, how often it was entered.
        seen, since: the `op` that the watch last saw, and when it first did, on the watch's clock.
    """

    __slots__ = ("_place", "_who", "calls", "count", "describe", "lane", "name", "op", "seen", "since")

    def __init__(self, describe: Callable[[Any], Op], name: Name, size: int, lane: int) -> None:
        self.describe, self.name, self.lane = describe, name, lane
        self.op: Any = None
        self.count = 0
        self.calls: dict[bytes, int] = defaultdict(int)
        self.seen: Any = None
        self.since = 0.0
        self._who = black_box.NAME.pack(*name, size, lane)
        self._place = 0

    def enter(self, op: Any, count: int, action: bytes, elements: int = -1, dtype: bytes = b"") -> None:
        """Says what comes now.

        Args:
            op: what `describe` understands.
            count: which one it is: the same on all ranks; of a message the other rank.
            action: up to 16 letters.
            elements, dtype: of the array.
        """
        self.op, self.count = op, count
        self.calls[action] += 1
        entries = _entries
        number = next(entries.numbers)
        place = number % _ENTRIES
        self._place = place * _DOUBLES + _END
        _pack_into(
            entries.bytes, place * _BYTES, number, _clock(), 0.0, count, elements, self._who, action, dtype, number
        )

    def leave(self) -> None:
        """Says that it is over; does nothing if nothing was entered."""
        if self.op is not None:
            self.op = None
            _entries.doubles[self._place] = _clock()


slots: list[Slot] = []


def progress() -> dict[tuple[Any, ...], int]:
    """By lane (as in `Op.lane`), what this process has come to last."""
    return {(slot.lane, *slot.name): slot.count for slot in list(slots) if slot.lane != black_box.MESSAGES}


def new_slot(describe: Callable[[Any], Op], name: Name, size: int, lane: int) -> Slot:
    """A slot that the watch sees."""
    slot = Slot(describe, name, size, lane)
    slots.append(slot)
    return slot


def drop_slot(slot: Slot) -> None:
    """Forgets a slot."""
    slots[:] = [other for other in slots if other is not slot]


_names: dict[np.dtype[Any], bytes] = {}


def dtype_name(dtype: np.dtype[Any]) -> bytes:
    """The name of a dtype for an entry; kept, because NumPy takes longer for it than the rest of an entry takes."""
    name = _names.get(dtype)
    if name is None:
        name = _names[dtype] = str(dtype).encode()
    return name
