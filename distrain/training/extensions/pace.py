"""How far a training is, and how fast it goes."""

from __future__ import annotations

import datetime
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_WINDOW = 20  # looks over which the speed is averaged


class Progress(NamedTuple):
    """What a look has found.

    Attributes:
        part: of the training that is complete, from 0 to 1; None: its length is not known.
        speed: iterations a second.
        left: the time until the end; None: not known.
    """

    part: float | None
    speed: float
    left: datetime.timedelta | None


class Pace:
    """Looks at a training now and then.

    Args:
        trainer: the training.
        now: seconds of `time.monotonic`.
        length: `(number, unit)` of it; None takes what its stop trigger says.

    Attributes:
        length: `(number, unit)`, or None if it is not known.
        shown: when the last look was, in seconds of `time.monotonic`.
        shown_iteration: at which iteration it was; -1 before the first one.
    """

    def __init__(self, trainer: Trainer, now: float, length: tuple[float, str] | None = None) -> None:
        if length is None:
            get_length = getattr(trainer.stop_trigger, "get_training_length", None)
            length = get_length() if get_length else None
        self.length = length
        self.shown = now
        self.shown_iteration = -1
        self._recent: deque[tuple[int, float]] = deque([(trainer.updater.iteration, now)], maxlen=_WINDOW)

    def look(self, trainer: Trainer, now: float) -> Progress:
        """How far it is now."""
        updater = trainer.updater
        iteration, before = self._recent[0]
        speed = (updater.iteration - iteration) / max(now - before, 1e-9)
        self._recent.append((updater.iteration, now))
        self.shown, self.shown_iteration = now, updater.iteration
        if self.length is None:
            return Progress(None, speed, None)
        length, unit = self.length
        part = min((updater.iteration if unit == "iteration" else updater.epoch_detail) / length, 1.0)
        if not (part and speed):
            return Progress(part, speed, None)
        left = updater.iteration / part * (1 - part) / speed
        return Progress(part, speed, datetime.timedelta(seconds=round(left)))


def rounded(speed: float) -> str:
    """A speed as people read it."""
    return f"{speed:.0f}" if speed >= 100 else f"{speed:.3g}"


def line(trainer: Trainer, progress: Progress) -> str:
    """One line about it, without its end."""
    words = [f"progress: iteration {trainer.updater.iteration}", f"epoch {trainer.updater.epoch_detail:.2f}"]
    words += [] if progress.part is None else [f"{progress.part:.1%}"]
    words += [f"{rounded(progress.speed)} iterations/s"]
    words += [] if progress.left is None else [f"{progress.left} left"]
    return ", ".join(words)
