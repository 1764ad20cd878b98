"""An extension that divides two sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distrain import minibatch
from distrain.comm import Communicator
from distrain.reporting import DictSummary
from distrain.training.extension import PRIORITY_EDITOR, Extension
from distrain.training.triggers import agreement
from distrain.training.triggers.trigger import get_trigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class MicroAverage(Extension):
    """Puts the quotient of two sums over an interval into the observation: of all hits and all trials, for instance.

        trainer.extend(extensions.MicroAverage("main/correct", "main/total", "main/accuracy"))

    On several ranks the sums are those of all of them. The quotient comes to the observation of the iteration in which
    the interval ends; LogReport, which runs after it, finds it there.

    Args:
        numerator_key, denominator_key: names of the values that are added up.
        result_key: the name of the quotient.
        trigger: the interval; see `get_trigger`.

    Attributes:
        comm: the ranks whose values are added up; None is those of the trainer.
    """

    priority = PRIORITY_EDITOR
    comm: Communicator | None = None

    def __init__(self, numerator_key: str, denominator_key: str, result_key: str, trigger: Any = (1, "epoch")) -> None:
        self._keys = (numerator_key, denominator_key)
        self._result_key = result_key
        self._trigger = get_trigger(trigger)
        self._sums = [0.0, 0.0]

    def initialize(self, trainer: Trainer) -> None:
        """Takes the trainer's ranks, unless it has its own."""
        if self.comm is None:
            self.comm = trainer.comm
        if self.comm.rank != 0:
            self._sums = [0.0, 0.0]  # a snapshot has the sums of all ranks, which count once
        agreement.decide_among(self._trigger, self.comm)

    def __call__(self, trainer: Trainer) -> None:
        """Adds the values of this iteration; at the end of an interval, divides."""
        observation = trainer.observation
        share = minibatch.current()
        if self._keys[0] in observation and (share is None or share.count):  # a rank without samples has a stand-in
            means = DictSummary()
            means.add({key: observation[key] for key in self._keys})
            for i, key in enumerate(self._keys):
                self._sums[i] += means.compute_mean()[key]
        if self._trigger(trainer):
            numerator, denominator = self._of_all_ranks(self.comm or trainer.comm)
            self._sums = [0.0, 0.0]
            if denominator:
                observation[self._result_key] = numerator / denominator

    def _of_all_ranks(self, comm: Communicator) -> list[float]:
        if comm.size == 1:
            return self._sums
        return [sum(column) for column in zip(*comm.allgather_obj(self._sums), strict=True)]

    def gather(self) -> None:
        """Moves the sums of all ranks to rank 0, for a snapshot; a collective call, allowed at any time."""
        if self.comm is not None and self.comm.size > 1:
            sums = self._of_all_ranks(self.comm)
            self._sums = sums if self.comm.rank == 0 else [0.0, 0.0]
            agreement.gather(self._trigger)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the sums of the interval that has begun."""
        if hasattr(self._trigger, "serialize"):
            self._trigger.serialize(serializer["_trigger"])
        self._sums[0] = serializer("_numerator", self._sums[0])
        self._sums[1] = serializer("_denominator", self._sums[1])
