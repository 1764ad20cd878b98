"""An extension that records a few steps as a picture of time."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from distrain.clock import Stretch, clock
from distrain.comm import Communicator, world
from distrain.errors import ArgumentError
from distrain.files import atomic_write
from distrain.training.extension import Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class Trace(Extension):
    """Records some iterations of every rank, for a browser to show.

        trainer.extend(extensions.Trace(start=100, iterations=10))

    `out/trace/rank-000.json` and so on are in the Trace Event Format: open one, or several at once, at
    https://ui.perfetto.dev or in chrome://tracing. A row is a thread: on that of the training stand data, forward,
    backward, exchange, update and the extensions; on that which sends gradients, the collectives ("sending"), so one
    sees what hides behind the backward pass. Times of several ranks are comparable: they count from a barrier.

    Args:
        start: iterations before the first one that is recorded. The first few are slower than others.
        iterations: how many are recorded.
        folder: where the files go, in the trainer's `out`.

    Attributes:
        comm: the ranks that record together.

    Raises:
        ArgumentError: a negative start, or no iterations.
    """

    trigger = (1, "iteration")
    priority = -1000  # after all others, so that theirs belong to the iteration

    def __init__(self, start: int = 20, iterations: int = 10, folder: str = "trace") -> None:
        if start < 0 or iterations < 1:
            raise ArgumentError(f"a trace needs start >= 0 and iterations >= 1, not {start} and {iterations}")
        self.comm: Communicator | None = None
        self._first, self._count, self._folder = start, iterations, folder
        self._left = 0
        self._origin = self._iteration_start = 0.0

    def initialize(self, trainer: Trainer) -> None:
        """Starts with the first iteration if that is wanted; of a resumed run, the iterations count from there."""
        self.comm = trainer.comm if self.comm is None else self.comm
        self._first += trainer.updater.iteration
        if self._first == trainer.updater.iteration:
            self._begin()

    def __call__(self, trainer: Trainer) -> None:
        """Starts, goes on, or writes the file; a collective call before the first iteration."""
        if self._left:
            self._left -= 1
            clock.note(f"iteration {trainer.updater.iteration}", self._iteration_start)
            self._iteration_start = time.perf_counter()
            if not self._left:
                self._write(trainer)
        elif trainer.updater.iteration == self._first:
            self._begin()

    def _begin(self) -> None:
        (self.comm or world()).barrier()
        self._origin = self._iteration_start = time.perf_counter()
        self._left = self._count
        clock.stretches = []

    def _write(self, trainer: Trainer) -> None:
        stretches, clock.stretches = clock.stretches or [], None
        rank = (self.comm or world()).rank
        os.makedirs(os.path.join(trainer.out, self._folder), exist_ok=True)
        text = json.dumps({"traceEvents": trace_events(stretches, self._origin, rank), "displayTimeUnit": "ms"})
        with atomic_write(os.path.join(trainer.out, self._folder, f"rank-{rank:03d}.json")) as file:
            file.write(text.encode())

    def finalize(self) -> None:
        """Ends the recording; what is not complete is not written."""
        if self._left:
            self._left, clock.stretches = 0, None


def trace_events(stretches: list[Stretch], origin: float, rank: int) -> list[dict[str, Any]]:
    """Stretches of time as events of the Trace Event Format, in microseconds; called by the thread that trains.

    Args:
        stretches: to write; those that had begun before the origin are left out.
        origin: the time that becomes 0, in seconds of `time.perf_counter`.
        rank: of this process, which is its number in the trace.
    """
    stretches = [stretch for stretch in stretches if stretch.start >= origin]
    others = sorted({stretch.thread for stretch in stretches} - {threading.get_ident()})
    rows = {thread: row for row, thread in enumerate(others, start=1)}
    alive = {thread.ident: thread.name for thread in threading.enumerate()}
    names = {0: "training", **{row: alive.get(thread, "a thread") for thread, row in rows.items()}}
    events: list[dict[str, Any]] = [{"ph": "M", "name": "process_name", "pid": rank, "args": {"name": f"rank {rank}"}}]
    events += [
        {"ph": "M", "name": "thread_name", "pid": rank, "tid": row, "args": {"name": name}}
        for row, name in names.items()
    ]
    for name, start, stop, thread in sorted(stretches, key=lambda s: (s.start, -s.stop)):
        ts, duration = 1e6 * (start - origin), 1e6 * (stop - start)
        row = rows.get(thread, 0)
        events.append({"ph": "X", "name": name, "pid": rank, "tid": row, "ts": round(ts, 3), "dur": round(duration, 3)})
    return events
