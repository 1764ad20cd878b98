"""Triggers that fire when an observed value is better than ever."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from distrain.comm import Communicator
from distrain.training.triggers.agreement import JobMean, decide_among, gather, is_higher, is_lower
from distrain.training.triggers.trigger import get_trigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class BestValueTrigger:
    """Fires when the mean of an observed value over an interval is better than in all intervals before.

        best = triggers.MaxValueTrigger("validation/main/accuracy")
        trainer.extend(extensions.snapshot_object(model, "best.npz"), trigger=best)

    The mean is that of the whole job, so all ranks come to the same answer. NaN is never better than anything.

    Args:
        key: name of the value: "validation/main/loss".
        compare: `compare(best, new)` says whether the new value is better.
        trigger: the interval; see `get_trigger`.

    Attributes:
        best_value: the best so far; None before there was one.
        comm: the ranks that decide together; None is those of the trainer.
    """

    is_collective = True
    comm: Communicator | None = None

    def __init__(self, key: str, compare: Callable[[float, float], bool], trigger: Any = (1, "epoch")) -> None:
        self._mean = JobMean(key)
        self._compare = compare
        self._interval = get_trigger(trigger)
        self._best = math.nan  # none yet

    @property
    def best_value(self) -> float | None:
        """The best value so far; None before there was one."""
        return None if math.isnan(self._best) else self._best

    def __call__(self, trainer: Trainer) -> bool:
        """Whether an interval is complete and its mean better than all before."""
        comm = self.comm or trainer.comm
        self._mean.add(trainer, comm)
        if self.comm is not None:
            decide_among(self._interval, self.comm)
        if not self._interval(trainer):
            return False
        value = self._mean.take(comm)
        if value is None:
            if math.isnan(self._best):
                self._mean.warn_of_absence(self, trainer)
            return False
        if math.isnan(value) or not (math.isnan(self._best) or self._compare(self._best, value)):
            return False
        self._best = value
        return True

    def gather(self) -> None:
        """Moves the sums of all ranks to rank 0, for a snapshot; a collective call."""
        self._mean.gather()
        gather(self._interval)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the best value and the sums of the interval that has begun."""
        if hasattr(self._interval, "serialize"):
            self._interval.serialize(serializer["interval_trigger"])
        self._mean.serialize(serializer["summary"])
        self._best = serializer("best_value", self._best)


class MaxValueTrigger(BestValueTrigger):
    """Fires when an observed value is higher than ever; see `BestValueTrigger`."""

    def __init__(self, key: str, trigger: Any = (1, "epoch")) -> None:
        super().__init__(key, is_higher, trigger)


class MinValueTrigger(BestValueTrigger):
    """Fires when an observed value is lower than ever; see `BestValueTrigger`."""

    def __init__(self, key: str, trigger: Any = (1, "epoch")) -> None:
        super().__init__(key, is_lower, trigger)
