"""An extension that says how fast training is, and where the time goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from distrain import minibatch
from distrain.clock import Phase, clock
from distrain.comm import Communicator, world
from distrain.training.extension import PRIORITY_WRITER, Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_PHASES: tuple[Phase, ...] = ("data", "forward", "backward", "exchange", "sending", "update")


class Throughput(Extension):
    """Reports the speed and the split of the time, every 100 iterations unless `extend` is given another trigger.

    In the observation appear, as means since the last time:

        samples_per_second       of the whole job, evaluations and snapshots included

    and, in seconds an iteration,

        time/data                until the minibatch was there
        time/forward             the loss, where `optimizer.update` is given the loss function
        time/backward            the gradients
        time/exchange            waiting for the sum of the gradients over the ranks
        time/hidden              of the exchange, what went on behind the backward pass
        time/update              the optimizer's rules and hooks
        time/other               the rest of the updater: converter, code of your own
        time/extensions          everything else
        time/slowest             data, forward, backward, update and other of the slowest rank
        time/slowest_rank        which that is (a number, no time)

    "exchange" to "hidden" and "slowest" are there with several ranks only. A rank that waits long in the exchange waits
    for others; the slowest one waits least. In a log of several ranks the times are means over the ranks.

    Attributes:
        comm: the ranks that train together.
    """

    trigger = (100, "iteration")
    priority = PRIORITY_WRITER

    def __init__(self) -> None:
        self.comm: Communicator | None = None
        self._updater: Any = None
        self._begin()

    def _begin(self) -> None:
        self._start = time.perf_counter()
        self._iterations = 0
        self._samples = 0
        self._seconds = 0.0  # in the updater
        self._phases = dict.fromkeys(_PHASES, 0.0)

    def initialize(self, trainer: Trainer) -> None:
        """Puts a clock around the updater."""
        self._updater = updater = trainer.updater
        update = updater.update
        seconds = clock.seconds

        def timed_update() -> None:
            start, before = time.perf_counter(), seconds.copy()  # evaluations use the same clock in between
            update()
            self._seconds += time.perf_counter() - start
            self._iterations += 1
            phases = self._phases
            for phase, took in before.items():
                phases[phase] += seconds[phase] - took
            share = minibatch.current()
            if share is not None:
                self._samples += share.total

        updater.update = timed_update  # type: ignore[method-assign]
        self.comm = trainer.comm if self.comm is None else self.comm
        self._begin()

    def __call__(self, trainer: Trainer) -> None:
        """Puts speed and times into the observation; a collective call on several ranks."""
        n = self._iterations
        if n:
            seconds = time.perf_counter() - self._start
            trainer.observation.update(self._times(seconds, n))
            if self._samples:
                trainer.observation["samples_per_second"] = self._samples / seconds
        self._begin()

    def _times(self, seconds: float, n: int) -> dict[str, float]:
        comm = self.comm or world()
        phases = {phase: took / n for phase, took in self._phases.items()}
        sending = phases.pop("sending")
        other = self._seconds / n - sum(phases.values())
        values = {f"time/{phase}": took for phase, took in phases.items() if phase != "exchange" or comm.size > 1}
        values |= {"time/other": max(0.0, other), "time/extensions": (seconds - self._seconds) / n}
        if comm.size > 1:
            own = comm.allgather_obj(self._seconds / n - phases["exchange"])
            slowest = max(own)
            values["time/hidden"] = max(0.0, sending - phases["exchange"])
            values |= {"time/slowest": slowest, "time/slowest_rank": own.index(slowest)}
        return values

    def finalize(self) -> None:
        """Takes the clock away."""
        if self._updater is not None:
            self._updater.__dict__.pop("update", None)
            self._updater = None
