"""An extension that says how fast training is, and where the time goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from distrain import minibatch
from distrain.training.extension import PRIORITY_WRITER, Extension

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class Throughput(Extension):
    """Reports the speed and the split of the time, every 100 iterations unless `extend` is given another trigger.

    In the observation appear, as means since the last time:

        samples_per_second       of the whole job, evaluations and snapshots included
        time/data                seconds an iteration that this rank waited for its minibatch
        time/update              seconds an iteration in the rest of the update: forward, backward, exchange, optimizer
        time/extensions          seconds an iteration in everything else

    In a log of several ranks the times are means over the ranks.
    """

    trigger = (100, "iteration")
    priority = PRIORITY_WRITER

    def __init__(self) -> None:
        self._updater: Any = None
        self._iterator: _TimedIterator | None = None
        self._begin()

    def _begin(self) -> None:
        self._start = time.perf_counter()
        self._iterations = 0
        self._samples = 0
        self._update_s = 0.0
        self._data_before_s = self._iterator.seconds if self._iterator is not None else 0.0

    def initialize(self, trainer: Trainer) -> None:
        """Puts a clock around the updater and its main iterator."""
        self._updater = updater = trainer.updater
        update = updater.update

        def timed_update() -> None:
            start = time.perf_counter()
            update()
            self._update_s += time.perf_counter() - start
            self._iterations += 1
            share = minibatch.current()
            if share is not None:
                self._samples += share.total

        updater.update = timed_update  # type: ignore[method-assign]
        iterators = getattr(updater, "_iterators", {})
        if "main" in iterators:
            self._iterator = iterators["main"] = _TimedIterator(iterators["main"])
        self._begin()

    def __call__(self, trainer: Trainer) -> None:
        """Puts speed and times into the observation."""
        n = self._iterations
        if n:
            seconds = time.perf_counter() - self._start
            data_s = self._iterator.seconds - self._data_before_s if self._iterator is not None else 0.0
            values = {
                "time/data": data_s / n,
                "time/update": (self._update_s - data_s) / n,
                "time/extensions": (seconds - self._update_s) / n,
            }
            if self._samples:
                values["samples_per_second"] = self._samples / seconds
            trainer.observation.update(values)
        self._begin()

    def finalize(self) -> None:
        """Takes the clocks away."""
        if self._updater is not None:
            self._updater.__dict__.pop("update", None)
            if self._iterator is not None:
                self._updater._iterators["main"] = self._iterator.iterator
            self._updater = None


class _TimedIterator:
    """An iterator that sums up how long its minibatches take; in everything else it is the iterator itself.

    Attributes:
        iterator: the iterator.
        seconds: spent in it so far.
    """

    def __init__(self, iterator: Any) -> None:
        self.iterator = iterator
        self.seconds = 0.0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        start = time.perf_counter()
        try:
            return next(self.iterator)
        finally:
            self.seconds += time.perf_counter() - start

    next = __next__

    @property
    def epoch(self) -> Any:  # asked for in every iteration, and __getattr__ is slow
        return self.iterator.epoch

    @property
    def epoch_detail(self) -> Any:
        return self.iterator.epoch_detail

    @property
    def is_new_epoch(self) -> Any:
        return self.iterator.is_new_epoch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.iterator, name)
