"""From what users write as a trigger to a trigger."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from distrain.errors import ArgumentError
from distrain.training.triggers.interval import IntervalTrigger as IntervalTrigger
from distrain.training.triggers.progress import UNITS

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

Trigger: TypeAlias = "Callable[[Trainer], bool]"
"""Asked once an iteration; whether the extension is to run."""


def get_trigger(trigger: Any) -> Trigger:
    """The trigger that an argument stands for.

    Args:
        trigger: `(period, unit)` with the unit "iteration" or "epoch"; a function of the trainer, taken as it is; or
            None, which never fires.

    Raises:
        ArgumentError: anything else, an unknown unit, or a period that is not positive.
    """
    if trigger is None:
        return never
    if callable(trigger):
        return trigger  # type: ignore[no-any-return]
    if isinstance(trigger, (tuple, list)) and len(trigger) == 2:
        return IntervalTrigger(*trigger)
    raise ArgumentError(
        f"{trigger!r} is no trigger: give (period, unit) with the unit {' or '.join(map(repr, UNITS))}, a function of "
        "the trainer, or None for never"
    )


def never(trainer: Trainer) -> bool:
    """The trigger that never fires."""
    return False
