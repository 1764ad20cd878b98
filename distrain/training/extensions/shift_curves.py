"""Extensions that change a hyperparameter, one class a curve; what they share is in `Shift`."""

from __future__ import annotations

import bisect
import math
import numbers
from collections.abc import Iterable
from typing import Any

from distrain.errors import ArgumentError
from distrain.training.extensions.shift import Shift


class ExponentialShift(Shift):
    """Multiplies a hyperparameter by a constant at each call: `init * rate**t`.

        trainer.extend(extensions.ExponentialShift("lr", 0.9), trigger=(1, "epoch"))

    Args:
        attr, init, target, optimizer: see `Shift`.
        rate: the factor, positive.
    """

    def __init__(
        self, attr: str, rate: float, init: float | None = None, target: float | None = None, optimizer: Any = None
    ) -> None:
        if rate <= 0:
            raise ArgumentError(f"the rate of ExponentialShift must be positive, not {rate}")
        super().__init__(attr, init, target, optimizer)
        self.rate = rate

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        return init * self.rate**t


class InverseShift(Shift):
    """Lets a hyperparameter fall with a power of the calls: `init * (1 + gamma * t)**-power`.

    Args:
        attr, init, target, optimizer: see `Shift`.
        gamma, power: of the formula.
    """

    def __init__(
        self,
        attr: str,
        gamma: float,
        power: float,
        init: float | None = None,
        target: float | None = None,
        optimizer: Any = None,
    ) -> None:
        super().__init__(attr, init, target, optimizer)
        self.gamma, self.power = gamma, power

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        return float(init * (1 + self.gamma * t) ** -self.power)


class LinearShift(Shift):
    """Moves a hyperparameter from one value to another in a straight line; before and after it stays.

        trainer.extend(extensions.LinearShift("lr", (0.1, 0.01), (1000, 5000)))

    Args:
        attr, optimizer: see `Shift`.
        value_range: the two values.
        time_range: numbers of calls at which the line begins and ends.
    """

    def __init__(
        self, attr: str, value_range: tuple[float, float], time_range: tuple[int, int], optimizer: Any = None
    ) -> None:
        super().__init__(attr, value_range[0], None, optimizer)
        if not time_range[0] < time_range[1]:
            raise ArgumentError(f"the time_range of LinearShift must begin before it ends, not {time_range}")
        self.value_range, self.time_range = value_range, time_range

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        (first, last), (start, end) = self.value_range, self.time_range
        part = min(max((t - start) / (end - start), 0.0), 1.0)
        return first + (last - first) * part if part < 1 else last


class MultistepShift(Shift):
    """Multiplies a hyperparameter by a constant at chosen numbers of calls.

        trainer.extend(extensions.MultistepShift("lr", 0.1, [30, 60], 0.1), trigger=(1, "epoch"))

    Args:
        attr, optimizer: see `Shift`.
        gamma: the factor.
        step_value: the numbers of calls.
        init: where it begins.
    """

    def __init__(
        self, attr: str, gamma: float, step_value: Iterable[int], init: float | None = None, optimizer: Any = None
    ) -> None:
        super().__init__(attr, init, None, optimizer)
        self.gamma, self.step_value = gamma, sorted(step_value)

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        return init * self.gamma ** bisect.bisect_right(self.step_value, t)


class PolynomialShift(Shift):
    """Lets a hyperparameter fall to 0 along a polynomial: `init * (1 - t / max_count)**rate`.

    Args:
        attr, init, target, optimizer: see `Shift`.
        rate: the exponent.
        max_count: number of calls at which it reaches 0 and stays.
    """

    def __init__(
        self,
        attr: str,
        rate: float,
        max_count: int,
        init: float | None = None,
        target: float | None = None,
        optimizer: Any = None,
    ) -> None:
        super().__init__(attr, init, target, optimizer)
        self.rate, self.max_count = rate, _positive("PolynomialShift", max_count)

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        return float(init * max(1 - t / self.max_count, 0.0) ** self.rate)


class StepShift(Shift):
    """Multiplies a hyperparameter by a constant every so many calls: `init * gamma**(t // step)`.

    Args:
        attr, init, target, optimizer: see `Shift`.
        gamma: the factor.
        step: the number of calls.
    """

    def __init__(
        self,
        attr: str,
        gamma: float,
        step: int,
        init: float | None = None,
        target: float | None = None,
        optimizer: Any = None,
    ) -> None:
        super().__init__(attr, init, target, optimizer)
        self.gamma, self.step = gamma, _positive("StepShift", step, "step")

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        return float(init * self.gamma ** (t // self.step))


class WarmupShift(Shift):
    """Lets a hyperparameter grow to its value in a straight line; it stays there.

    Args:
        attr, optimizer: see `Shift`.
        warmup_start: where the line begins.
        warmup_iter: number of calls after which it ends.
        init: where it ends.
    """

    def __init__(
        self, attr: str, warmup_start: float, warmup_iter: int, init: float | None = None, optimizer: Any = None
    ) -> None:
        super().__init__(attr, init, None, optimizer)
        self.warmup_start, self.warmup_iter = warmup_start, _positive("WarmupShift", warmup_iter, "warmup_iter")

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        return self.warmup_start + (init - self.warmup_start) * t / self.warmup_iter if t < self.warmup_iter else init


class CosineShift(Shift):
    """Lets a hyperparameter fall along half a cosine, perhaps after a warmup in a straight line.

        trainer.extend(extensions.CosineShift("lr", 90, warmup=5), trigger=(1, "epoch"))

    Args:
        attr, init, optimizer: see `Shift`.
        max_count: number of calls after which it has reached `target`, the warmup included; it stays there.
        target: where the curve ends.
        warmup: calls in which it first grows from 0.

    References:
        I. Loshchilov, F. Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017.
    """

    def __init__(
        self,
        attr: str,
        max_count: int,
        init: float | None = None,
        target: float = 0.0,
        warmup: int = 0,
        optimizer: Any = None,
    ) -> None:
        super().__init__(attr, init, None, optimizer)
        self.max_count, self.end, self.warmup = _positive("CosineShift", max_count), target, warmup
        if not 0 <= warmup < max_count:
            raise ArgumentError(f"the warmup of CosineShift must be 0 … max_count - 1 ({max_count - 1}), not {warmup}")

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        if t < self.warmup:
            return init * t / self.warmup
        return _cosine(init, self.end, (t - self.warmup) / (self.max_count - self.warmup))


class OneCycleShift(Shift):
    """Lets a hyperparameter rise and fall once, along two half cosines: one cycle that trains fast at high rates.

        trainer.extend(extensions.OneCycleShift("lr", 0.5, max_count=5000))

    Args:
        attr, optimizer: see `Shift`.
        peak: the highest value.
        max_count: number of calls after which the cycle is over; the value stays at `target`.
        init: where it begins; a 25th of the peak by default.
        target: where it ends; a 10,000th of `init` by default.
        rise: part of the calls in which it rises.

    References:
        L. N. Smith, N. Topin: Super-Convergence: Very Fast Training Using Large Learning Rates, 2018.
    """

    def __init__(
        self,
        attr: str,
        peak: float,
        max_count: int,
        init: float | None = None,
        target: float | None = None,
        rise: float = 0.3,
        optimizer: Any = None,
    ) -> None:
        first = peak / 25 if init is None else init
        super().__init__(attr, first, None, optimizer)
        if not 0 < rise < 1:
            raise ArgumentError(f"the rising part of OneCycleShift lies between 0 and 1, not at {rise}")
        self.peak, self.max_count, self.rise = peak, _positive("OneCycleShift", max_count), rise
        self.end = first / 1e4 if target is None else target

    def value_at(self, t: int, init: float) -> float:
        """See `Shift.value_at`."""
        part = t / self.max_count
        if part < self.rise:
            return _cosine(init, self.peak, part / self.rise)
        return _cosine(self.peak, self.end, (part - self.rise) / (1 - self.rise))


def _cosine(start: float, end: float, part: float) -> float:
    """Half a cosine from one value to another; it stays there."""
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2 if part < 1 else end


def _positive(curve: str, count: int, what: str = "max_count") -> int:
    if not isinstance(count, numbers.Real) or count < 1:
        raise ArgumentError(f"the {what} of {curve} is a number of its calls, 1 at least, not {count!r}")
    return count
