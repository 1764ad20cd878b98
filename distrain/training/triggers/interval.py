"""A trigger that fires at regular intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from distrain.errors import ArgumentError

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

UNITS = ("epoch", "iteration")

_ROUNDING = 1e-10  # relative; 0.1 + 0.2 epochs are three intervals of 0.1, although 0.3 // 0.1 is 2.0


class IntervalTrigger:
    """Fires whenever training has passed another whole number of periods.

    It compares how many periods were complete when it was last asked with how many are now, so it fires once an
    interval however long the steps are. Both numbers are in the snapshot: a resumed run fires at the same iterations
    as one that was never interrupted.

    Args:
        period: length of the interval; a fraction is allowed: `(0.5, "epoch")` fires twice an epoch.
        unit: "epoch" or "iteration".

    Raises:
        ArgumentError: another unit, or a period that is not a positive number.
    """

    def __init__(self, period: float, unit: str) -> None:
        if unit not in UNITS:
            raise ArgumentError(f"unknown trigger unit {unit!r}; the units are {', '.join(map(repr, UNITS))}")
        if isinstance(period, bool) or not hasattr(period, "__float__") or not 0 < float(period) < math.inf:
            raise ArgumentError(f"the period of a trigger must be a positive number of {unit}s, not {period!r}")
        self.period = period
        self.unit = unit
        self._is_whole = type(period) is int
        self._previous_iteration = -1
        self._previous_epoch_detail = -1.0

    def __call__(self, trainer: Trainer) -> bool:
        """Whether another interval is complete since the last call."""
        updater = trainer.updater
        if self.unit == "iteration":
            now, before = updater.iteration, self._previous_iteration
            self._previous_iteration = now
            if before < 0:
                before = max(now - 1, 0)
            if self._is_whole:
                return now // self.period != before // self.period
            return self.count(now) != self.count(before)
        detail, since = updater.epoch_detail, self._previous_epoch_detail
        self._previous_epoch_detail = detail
        if since < 0:
            since = updater.previous_epoch_detail or 0.0
        return self.count(detail) != self.count(since)

    def count(self, progress: float) -> int:
        """How many intervals are complete after that many iterations or epochs."""
        quotient = progress / self.period
        return math.floor(quotient + _ROUNDING * max(1.0, quotient))

    def is_over(self, trainer: Trainer) -> bool:
        """Whether the first interval is complete."""
        updater = trainer.updater
        return self.count(updater.iteration if self.unit == "iteration" else updater.epoch_detail) >= 1

    def get_training_length(self) -> tuple[float, str]:
        """Period and unit; read by the progress bar from the trigger that stops training."""
        return self.period, self.unit

    def serialize(self, serializer: Any) -> None:
        """Writes or reads where training stood at the last call."""
        self._previous_iteration = serializer("previous_iteration", self._previous_iteration)
        self._previous_epoch_detail = serializer("previous_epoch_detail", self._previous_epoch_detail)

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.period}, {self.unit!r})"
