"""Where the time of training goes: seconds by phase, and each stretch of time while somebody records them.

Always on, since it costs six readings of the clock a step. On a GPU, which works on while Python goes ahead, the phases
are those of Python.
"""

from __future__ import annotations

import threading
import time
from typing import Literal, NamedTuple, TypeAlias

Phase: TypeAlias = Literal["data", "forward", "backward", "exchange", "sending", "update"]


class Stretch(NamedTuple):
    """Something that took from `start` to `stop`, in seconds of `time.perf_counter`, in the thread of that ident."""

    name: str
    start: float
    stop: float
    thread: int


class Clock:
    """Sums up what phases take.

    Attributes:
        seconds: by phase, since the process began:
            data: distrain's iterators, until a minibatch is there;
            forward, backward: of the loss function given to `optimizer.update`;
            exchange: the training thread in the exchange of gradients;
            sending: collectives of the exchange, in whichever thread makes them; what exceeds "exchange" was hidden
            behind the backward pass;
            update: the optimizer's rules and hooks.
        last: the phase that ended last; empty before the first.
        stretches: what `lap` and `note` have seen since somebody put a list here; None: nobody wants to know.
    """

    def __init__(self) -> None:
        self.seconds: dict[Phase, float] = dict.fromkeys(
            ("data", "forward", "backward", "exchange", "sending", "update"), 0.0
        )
        self.last = ""
        self.stretches: list[Stretch] | None = None

    def lap(self, phase: Phase, start: float) -> float:
        """A phase has lasted since `start`; returns the time, at which the next one starts.

        No two threads may end laps of one phase at the same time.
        """
        now = time.perf_counter()
        self.seconds[phase] += now - start
        self.last = phase
        if self.stretches is not None:
            self.stretches.append(Stretch(phase, start, now, threading.get_ident()))
        return now

    def note(self, name: str, start: float) -> None:
        """Something that is no phase has lasted since `start`; of interest only to who records."""
        if self.stretches is not None:
            self.stretches.append(Stretch(name, start, time.perf_counter(), threading.get_ident()))


clock = Clock()
"""That of this process."""
