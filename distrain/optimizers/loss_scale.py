"""The factor on the loss in float16 training."""

from __future__ import annotations

from typing import Any

from distrain.errors import ArgumentError


class LossScale:
    """A factor on the loss, constant or found while training.

    Args:
        value: the (first) factor.
        interval: good steps after which it doubles; None keeps it constant.

    Raises:
        ArgumentError: the factor is not positive.

    References:
        P. Micikevicius et al.: Mixed Precision Training, 2018, section 3.2.
    """

    def __init__(self, value: float, interval: int | None) -> None:
        if not value > 0:
            raise ArgumentError(f"the loss scale must be positive, not {value}")
        self.value, self.interval, self.good_steps = float(value), interval, 0

    @property
    def is_dynamic(self) -> bool:
        """Whether it is found while training."""
        return self.interval is not None

    def adjust(self, finite: bool) -> None:
        """Halves the factor after a step with gradients that are not finite; doubles it after enough good steps."""
        if not finite:
            self.value, self.good_steps = max(self.value / 2, 1.0), 0
            return
        self.good_steps += 1
        if self.interval is not None and self.good_steps >= self.interval:
            self.value, self.good_steps = self.value * 2, 0

    def serialize(self, serializer: Any) -> None:
        """Reads or writes the factor and the count of good steps."""
        self.value = serializer("value", self.value)
        self.good_steps = serializer("good_steps", self.good_steps)
