"""Stopping at a signal: all ranks finish the same step, the trainer is saved, and the job ends with code 75.

Batch systems take a machine back by a signal (SIGTERM, or SIGUSR1 and SIGUSR2 where they are told so), to one rank or
to all. Its handler does nothing but note it. The ranks ask each other at agreed steps whether anybody has heard one:
every 0.05 s or so, in every step if steps are longer. So they come to the same answer after the same step, whatever the
updater exchanges, and a step costs next to nothing.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Container, Iterable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from distrain import black_box, restart
from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.training.extensions.snapshot import Snapshot
from distrain.training.triggers.best_value import BestValueTrigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

CODE = 75
"""Exit code of a job that is to be started again (EX_TEMPFAIL of sysexits.h)."""

GRACE = "DISTRAIN_GRACE"

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)

_ASK_S = 0.05
_MOST_STEPS = 64  # between two questions, so that steps which become slow are noticed soon
_SAME_S = 2.0  # batch system, mpiexec and launcher may each pass on the same signal


class Stopping:
    """A `with` block in which signals stop the training.

    Only signals that would otherwise end the process are heard: a handler of the script's own stays. A signal that
    comes more than two seconds after the first one ends the process at once, and so does the end of `DISTRAIN_GRACE`
    seconds (60), by SIGALRM; `distrain run` has a clock of its own. In a process that the rank has forked, signals keep
    their meaning.

    Args:
        comm: the ranks that train together.

    Attributes:
        signal: the number of the signal that the ranks have agreed to stop for; 0: none.
        heard_at: when this rank has heard its first one, as `time.monotonic` tells; None: it has not.
        grace_s: seconds from a signal to the end of the process.
        is_final: whether the process is about to end; `save` says so.

    Raises:
        ArgumentError: `DISTRAIN_GRACE` is no time.
    """

    def __init__(self, comm: Communicator) -> None:
        self.signal = 0
        self.heard_at: float | None = None
        self._comm = comm
        self._pid = os.getpid()
        self._heard = 0
        self._numbers: list[int] = []
        self.grace_s = grace_s(os.environ.get(GRACE))
        self.is_final = False
        self._state = 0
        self._steps = self._left = 1  # from one question to the next, and until then
        self._asked_at = 0.0

    def __enter__(self) -> Stopping:
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            self._numbers = [number for number in SIGNALS if signal.getsignal(number) is signal.SIG_DFL]
        for number in self._numbers:
            signal.signal(number, self._hear)
        self._state = black_box.state()
        if signal.SIGTERM in self._numbers:
            black_box.enter(black_box.TRAINING)
        self._asked_at = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if black_box.state() == black_box.TRAINING:
            black_box.enter(self._state)
        if self._heard and not self.is_final:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number in self._numbers:
            if self.is_final and kind is None:  # srun ends ranks by SIGTERM that are a little later than the first
                signal.signal(number, signal.SIG_IGN)
            elif not self._heard:  # else its copies may still be on their way
                signal.signal(number, signal.SIG_DFL)

    def _hear(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.heard_at is None and os.getpid() == self._pid:
            self._heard, self.heard_at = number, now
            if not black_box.is_open() and signal.getsignal(signal.SIGALRM) is signal.SIG_DFL:
                signal.setitimer(signal.ITIMER_REAL, self.grace_s)  # ends the process wherever it hangs
        elif self.heard_at is None or now - self.heard_at > _SAME_S or os.getpid() != self._pid:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def is_now(self) -> bool:
        """Whether the training is to stop after this step; called after each of them, a collective call."""
        self._left -= 1
        if self._left:
            return False
        if self._comm.size == 1:
            self.signal, self._left = self._heard, 1
        else:
            self._ask()
        return self.signal != 0

    def _ask(self) -> None:
        """Asks all ranks; whole numbers, so that every rank draws the same conclusions from the sums."""
        now = time.monotonic()
        took = min(int(1e6 * (now - self._asked_at)), 2**40)
        self._asked_at = now
        sums = np.array([took, *(number == self._heard for number in SIGNALS)], np.int64)
        took, *heard = self._comm.allreduce(sums, out=sums).tolist()
        self.signal = next((int(number) for number, count in zip(SIGNALS, heard, strict=True) if count), 0)
        self._steps = self._left = steps_between(self._steps, took / self._comm.size * 1e-6)


def grace_s(text: str | None) -> float:
    """The time from a signal to the end, in a variable.

    Raises:
        ArgumentError: it is not a positive number.
    """
    try:
        seconds = float(text) if text else 60.0
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ArgumentError(f"{GRACE}={text!r}: expected a number of seconds above 0")
    return seconds


def steps_between(steps: int, seconds: float) -> int:
    """How many steps the next question comes after.

    Args:
        steps: how many the last one came after.
        seconds: that these took, on average over the ranks.
    """
    return max(1, min(int(_ASK_S * steps / max(seconds, 1e-6)), 2 * steps, _MOST_STEPS))


def save(trainer: Trainer, entries: Iterable[Any], mine: Container[Any], stopping: Stopping) -> str:
    """Saves the trainer by the extension that it has for this; a collective call.

    That is the first `snapshot()` of the whole trainer that does not keep the best: a file of the best is not to be
    replaced by one of the last.

    Args:
        trainer: that has agreed to stop.
        entries: its extensions, in their order.
        mine: those that run on this rank.
        stopping: with the signal.

    Returns:
        What has happened, and how it goes on.
    """
    stopping.is_final = True
    savers = [entry for entry in entries if isinstance(entry.extension, Snapshot) and entry.extension.saves_trainer]
    chosen = next((entry for entry in savers if not _keeps_best(entry.trigger)), None)
    name = signal.Signals(stopping.signal).name
    head = f"stopped at iteration {trainer.updater.iteration} by {name}"
    if chosen is None:
        return f"{head}. Nothing was saved: the trainer has no snapshot() to continue from."
    saver, start = chosen.extension, time.monotonic()
    if chosen in mine and saver.saved_at != trainer.updater.iteration:
        saver(trainer)
    end = time.monotonic()
    if saver.saved_at != trainer.updater.iteration:
        return f"{head}. Nothing was saved: the condition of its snapshot() said no."
    path = os.path.join(trainer.out, saver.filename.format(trainer))
    times = f"saving took {end - start:.2g} s"
    if stopping.heard_at is not None:
        times += f", {end - stopping.heard_at:.2g} s from the signal on"
    is_loaded = saver.autoload or restart.is_on()
    how = "start it again to continue" if is_loaded else "load the file to continue, or give snapshot() autoload=True"
    return f"{head}; {path} has the whole training ({times}): {how}."


def _keeps_best(trigger: Any) -> bool:
    parts = getattr(trigger, "triggers", ())
    return isinstance(trigger, BestValueTrigger) or any([_keeps_best(part) for part in parts])


def say(comm: Communicator, text: str) -> None:
    """Says on rank 0 why the job ends; under the launcher these are its last words."""
    if comm.rank == 0:
        if black_box.is_open():
            black_box.report(text + "\n")
        else:
            sys.stderr.write(f"distrain: {text}\n")
            sys.stderr.flush()
