"""A trigger that goes by the clock."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from distrain.comm import Communicator
from distrain.errors import ArgumentError

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_LONGEST_S = 1.0  # between two questions to rank 0


class TimeTrigger:
    """Fires whenever another period of training time is over, at the end of the iteration in which it ends.

    The time is `trainer.elapsed_time`, so a resume does not start it anew. Rank 0's clock decides for all ranks. They
    are told when to ask next by a number of iterations, about a second at most, so that asking costs nothing.

    Args:
        period: seconds.

    Attributes:
        comm: the ranks that decide together; None is those of the trainer.

    Raises:
        ArgumentError: the period is not a positive number.
    """

    is_collective = True
    comm: Communicator | None = None

    def __init__(self, period: float) -> None:
        if isinstance(period, bool) or not hasattr(period, "__float__") or not 0 < float(period) < math.inf:
            raise ArgumentError(f"the period of a TimeTrigger must be a positive number of seconds, not {period!r}")
        self.period = period
        self._next_time = float(period)
        self._ask_at = -1  # iteration
        self._looked: tuple[int, float] | None = None  # iteration and time of rank 0's last look

    def __call__(self, trainer: Trainer) -> bool:
        """Whether another period is over."""
        comm = self.comm or trainer.comm
        if comm.size == 1:
            return self._is_due(trainer.elapsed_time)
        iteration = trainer.updater.iteration
        if iteration < self._ask_at:
            return False
        fires, wait, self._next_time = comm.bcast_obj(self._look(iteration, trainer.elapsed_time))
        self._ask_at = iteration + wait
        return bool(fires)

    def _is_due(self, now: float) -> bool:
        if now < self._next_time:
            return False
        self._next_time = (now // self.period + 1) * self.period
        return True

    def _look(self, iteration: int, now: float) -> tuple[bool, int, float]:
        """Whether it fires, iterations until the next question, and when it will fire next."""
        fires = self._is_due(now)
        before, self._looked = self._looked, (iteration, now)
        if before is None or before[0] == iteration:
            return fires, 1, self._next_time
        an_iteration = max((now - before[1]) / (iteration - before[0]), 1e-9)
        left = min((self._next_time - now) / 2, _LONGEST_S)
        return fires, max(1, int(left / an_iteration)), self._next_time

    def is_over(self, trainer: Trainer) -> bool:
        """Whether the first period is over."""
        comm = self.comm or trainer.comm
        return bool(comm.bcast_obj(trainer.elapsed_time >= self.period))

    def gather(self) -> None:
        """Does nothing: all ranks know the same."""

    def serialize(self, serializer: Any) -> None:
        """Writes or reads when it fires next."""
        self._next_time = serializer("next_time", self._next_time)
