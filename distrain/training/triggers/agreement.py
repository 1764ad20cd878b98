"""How triggers that look at more than the count of iterations come to one answer on all ranks.

Such a trigger says `is_collective = True`; the trainer then asks it on every rank, whatever ranks its extension runs
on. Its attribute `comm` are the ranks that decide together; None are those of the trainer.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from distrain import minibatch
from distrain.comm import Communicator
from distrain.reporting import DictSummary

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_ROUNDING = 1e-6  # relative; the same accuracy comes out of other float32 numbers on another number of ranks


def is_collective(trigger: Any) -> bool:
    """Whether a trigger must be asked on all ranks at the same time."""
    return bool(getattr(trigger, "is_collective", False))


def decide_among(trigger: Any, comm: Communicator) -> None:
    """Tells a trigger, if it cares, which ranks decide together."""
    if is_collective(trigger):
        trigger.comm = comm


def gather(trigger: Any) -> None:
    """Moves what a trigger has summed up on all ranks to rank 0, for a snapshot; a collective call."""
    if is_collective(trigger):
        trigger.gather()


def training_length(trigger: Any) -> tuple[float, str] | None:
    """How long a trigger that stops training lets it take; None if it cannot tell."""
    get_length = getattr(trigger, "get_training_length", None)
    return get_length() if get_length else None


def is_higher(best: float, new: float) -> bool:
    """Whether a mean is higher than the best by more than rounding."""
    return new > best + _ROUNDING * abs(best)


def is_lower(best: float, new: float) -> bool:
    """Whether a mean is lower than the best by more than rounding."""
    return new < best - _ROUNDING * abs(best)


class JobMean:
    """The mean of an observed value over an interval and over all ranks.

    Each iteration counts alike; within one the ranks count by their share of the minibatch.

    Args:
        key: name of the value.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._summary = DictSummary()
        self._is_loaded = False
        self._has_warned = False
        self._comm: Communicator | None = None

    def add(self, trainer: Trainer, comm: Communicator) -> None:
        """Adds the value of this iteration, if there is one."""
        self._comm = comm
        if self._is_loaded:
            self._is_loaded = False
            if comm.rank != 0:  # a snapshot has the sums of all ranks, which count once
                self._summary = DictSummary()
        value = trainer.observation.get(self.key)
        if value is not None:
            share = minibatch.current()
            self._summary.add({self.key: value}, 1.0 if share is None else share.weight)

    def take(self, comm: Communicator) -> float | None:
        """The mean since the last call; None if no rank has a value. A collective call."""
        mean = self._summary.over_ranks(comm).get(self.key)
        self._summary = DictSummary()
        return mean

    def warn_of_absence(self, trigger: Any, trainer: Trainer) -> None:
        """Says once, on rank 0, that the value has not come so far."""
        if self._has_warned or (self._comm is not None and self._comm.rank != 0):
            return
        self._has_warned = True
        names = ", ".join(map(repr, trainer.observation)) or "nothing"
        warnings.warn(
            f"{type(trigger).__name__} waits for {self.key!r}, which nobody has reported so far; the observation of "
            f"iteration {trainer.updater.iteration} has {names}"
        )

    def gather(self) -> None:
        """Moves the sums of all ranks to rank 0; a collective call."""
        if self._comm is not None and self._comm.size > 1 and not self._is_loaded:
            self._summary = self._summary.gathered(self._comm)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the sums."""
        self._summary.serialize(serializer)
        self._is_loaded = self._is_loaded or not serializer.is_writer
