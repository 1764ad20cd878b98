"""What triggers have in common that fire at certain iterations or epochs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from distrain.errors import ArgumentError

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

UNITS = ("epoch", "iteration")

ROUNDING = 1e-10  # relative; 0.1 + 0.2 epochs are three intervals of 0.1, although 0.3 // 0.1 is 2.0


class ProgressTrigger(ABC):
    """Fires whenever training has passed another of certain points.

    It compares how many points were passed when it was last asked with how many are now, so it fires once however
    long the steps are, and however many points one of them passes. Where it was last asked is in the snapshot: a
    resumed run fires at the same iterations as one that was never interrupted.

    Args:
        unit: "epoch" or "iteration".

    Raises:
        ArgumentError: another unit.
    """

    def __init__(self, unit: str) -> None:
        if unit not in UNITS:
            raise ArgumentError(f"unknown trigger unit {unit!r}; the units are {', '.join(map(repr, UNITS))}")
        self.unit = unit
        self._previous_iteration = -1
        self._previous_epoch_detail = -1.0
        self._passed = -1  # points up to there; -1: not counted

    @abstractmethod
    def count(self, progress: float) -> int:
        """How many points are passed after that many iterations or epochs."""

    def __call__(self, trainer: Trainer) -> bool:
        """Whether another point was passed since the last call."""
        updater = trainer.updater
        if self.unit == "iteration":
            now, before = updater.iteration, self._previous_iteration
            self._previous_iteration = now
            if before < 0:
                before = max(now - 1, 0)
            return self.count(now) != self.count(before)
        detail, since = updater.epoch_detail, self._previous_epoch_detail
        self._previous_epoch_detail = detail
        passed, before = self.count(detail), self._passed
        self._passed = passed
        if before < 0:
            before = self.count(since if since >= 0 else updater.previous_epoch_detail or 0.0)
        return passed != before

    def is_over(self, trainer: Trainer) -> bool:
        """Whether the first point is passed."""
        updater = trainer.updater
        return self.count(updater.iteration if self.unit == "iteration" else updater.epoch_detail) >= 1

    def serialize(self, serializer: Any) -> None:
        """Writes or reads where training stood at the last call."""
        self._previous_iteration = serializer("previous_iteration", self._previous_iteration)
        self._previous_epoch_detail = serializer("previous_epoch_detail", self._previous_epoch_detail)
        self._passed = -1
