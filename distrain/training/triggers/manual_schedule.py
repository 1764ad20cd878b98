"""A trigger that fires at chosen points."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable

from distrain.errors import ArgumentError
from distrain.training.triggers.progress import ROUNDING, ProgressTrigger


class ManualScheduleTrigger(ProgressTrigger):
    """Fires when training passes one of the points of a list.

        trainer.extend(halve_learning_rate, trigger=triggers.ManualScheduleTrigger([10, 15, 17.5], "epoch"))

    Args:
        points: numbers of iterations or epochs, or a single one; fractions are allowed.
        unit: "epoch" or "iteration".

    Raises:
        ArgumentError: another unit, or a point that is not a positive number.
    """

    def __init__(self, points: float | Iterable[float], unit: str) -> None:
        super().__init__(unit)
        self.points = list(points) if isinstance(points, Iterable) else [points]
        for point in self.points:
            if isinstance(point, bool) or not hasattr(point, "__float__") or not 0 < float(point) < math.inf:
                raise ArgumentError(f"a point of a schedule must be a positive number of {unit}s, not {point!r}")
        self._sorted = sorted(set(map(float, self.points)))

    def count(self, progress: float) -> int:
        """How many points are passed after that many iterations or epochs."""
        return bisect.bisect_right(self._sorted, progress * (1 + ROUNDING))

    def __str__(self) -> str:
        return f"{type(self).__name__}({self.points}, {self.unit!r})"
