"""Triggers made of triggers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.training.triggers.agreement import decide_among, gather, is_collective, training_length
from distrain.training.triggers.trigger import get_trigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class _Combination:
    """Several triggers as one. Each is asked in every iteration, since triggers count.

    Args:
        triggers: two or more; see `get_trigger`.

    Raises:
        ArgumentError: none at all.
    """

    def __init__(self, *triggers: Any) -> None:
        if not triggers:
            raise ArgumentError(f"{type(self).__name__} needs triggers to combine")
        self.triggers = [get_trigger(trigger) for trigger in triggers]

    @property
    def is_collective(self) -> bool:
        """Whether any of them must be asked on all ranks at the same time."""
        return any([is_collective(trigger) for trigger in self.triggers])

    @property
    def comm(self) -> Communicator | None:
        """The ranks that decide together; None is those of the trainer."""
        return next((trigger.comm for trigger in self.triggers if is_collective(trigger)), None)  # type: ignore[attr-defined]

    @comm.setter
    def comm(self, comm: Communicator) -> None:
        for trigger in self.triggers:
            decide_among(trigger, comm)

    def _answers(self, trainer: Trainer) -> list[bool]:
        return [bool(trigger(trainer)) for trigger in self.triggers]

    def _are_over(self, trainer: Trainer) -> list[bool]:
        known = [getattr(trigger, "is_over", None) for trigger in self.triggers]
        return [bool(is_over and is_over(trainer)) for is_over in known]

    def gather(self) -> None:
        """Moves what they have summed up on all ranks to rank 0, for a snapshot; a collective call."""
        for trigger in self.triggers:
            gather(trigger)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the state of each."""
        for i, trigger in enumerate(self.triggers):
            if hasattr(trigger, "serialize"):
                trigger.serialize(serializer[str(i)])

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(str, self.triggers))})"


class OrTrigger(_Combination):
    """Fires when any of its triggers does.

    trainer = training.Trainer(updater, triggers.OrTrigger((100, "epoch"), triggers.TimeTrigger(8 * 3600)))

    """

    def __call__(self, trainer: Trainer) -> bool:
        """Whether any fires."""
        return any(self._answers(trainer))

    def is_over(self, trainer: Trainer) -> bool:
        """Whether the training was complete already, by any of them."""
        return any(self._are_over(trainer))

    def get_training_length(self) -> tuple[float, str] | None:
        """That of the first that knows it; read by the progress bar."""
        lengths = [training_length(trigger) for trigger in self.triggers]
        return next((length for length in lengths if length is not None), None)


class AndTrigger(_Combination):
    """Fires in an iteration in which all of its triggers fire.

    trigger = triggers.AndTrigger((1, "epoch"), lambda trainer: trainer.updater.epoch > 10)

    """

    def __call__(self, trainer: Trainer) -> bool:
        """Whether all fire."""
        return all(self._answers(trainer))
