"""A trigger that fires once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class OnceTrigger:
    """Fires when it is asked for the first time: after the first iteration.

    Args:
        call_on_resume: also fire once after each resume.
    """

    def __init__(self, call_on_resume: bool = False) -> None:
        self.call_on_resume = call_on_resume
        self._has_fired = False
        self._is_resumed = False

    def __call__(self, trainer: Trainer) -> bool:
        """Whether this is the first call."""
        fires = not self._has_fired or (self._is_resumed and self.call_on_resume)
        self._has_fired, self._is_resumed = True, False
        return fires

    def serialize(self, serializer: Any) -> None:
        """Writes or reads whether it has fired."""
        self._has_fired = serializer("has_fired", self._has_fired)
        self._is_resumed = self._is_resumed or not serializer.is_writer
