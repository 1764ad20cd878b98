"""A trigger that fires at regular intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from distrain.errors import ArgumentError
from distrain.training.triggers.progress import ROUNDING, ProgressTrigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class IntervalTrigger(ProgressTrigger):
    """Fires whenever training has passed another whole number of periods, once an interval.

    Args:
        period: length of the interval; a fraction is allowed: `(0.5, "epoch")` fires twice an epoch.
        unit: "epoch" or "iteration".

    Raises:
        ArgumentError: another unit, or a period that is not a positive number.
    """

    def __init__(self, period: float, unit: str) -> None:
        super().__init__(unit)
        if isinstance(period, bool) or not hasattr(period, "__float__") or not 0 < float(period) < math.inf:
            raise ArgumentError(f"the period of a trigger must be a positive number of {unit}s, not {period!r}")
        self.period = period
        self._is_whole = type(period) is int
        self._epoch = -1  # the last call was in it; -1: `count` must say

    def __call__(self, trainer: Trainer) -> bool:
        """Whether another interval is complete since the last call."""
        if not self._is_whole:
            return super().__call__(trainer)
        # The usual cases, with few function calls: ten extensions ask in every iteration.
        if self.unit == "iteration":
            now: int = trainer.updater.iteration
            before = self._previous_iteration
            self._previous_iteration = now
            if before < 0:
                before = max(now - 1, 0)
            return now // self.period != before // self.period
        epoch = trainer.updater.epoch
        if epoch == self._epoch:
            return False
        fires = super().__call__(trainer)
        self._epoch = epoch if int(self._previous_epoch_detail) == epoch else -1
        return fires

    def count(self, progress: float) -> int:
        """How many intervals are complete after that many iterations or epochs."""
        quotient = progress / self.period
        return int(quotient + ROUNDING * (quotient if quotient > 1.0 else 1.0))

    def serialize(self, serializer: Any) -> None:
        """Writes or reads where training stood at the last call, or at one in the same epoch."""
        super().serialize(serializer)
        self._epoch = -1

    def get_training_length(self) -> tuple[float, str]:
        """Period and unit; read by the progress bar from the trigger that stops training."""
        return self.period, self.unit

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.period}, {self.unit!r})"
