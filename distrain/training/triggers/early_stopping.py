"""A trigger that fires when training does not get any further."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.training.triggers.agreement import JobMean, decide_among, gather, is_higher, is_lower, training_length
from distrain.training.triggers.trigger import get_trigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_MODES = ("auto", "min", "max")


class EarlyStoppingTrigger:
    """Stops the training when an observed value has not become better for some checks.

        stop = triggers.EarlyStoppingTrigger(monitor="validation/main/loss", patience=5, max_trigger=(100, "epoch"))
        trainer = training.Trainer(updater, stop)

    The value is the mean over the interval between two checks and over the whole job, so all ranks stop together.
    NaN counts as no improvement. A training that was stopped and is resumed from its last snapshot stays stopped.

    Args:
        check_trigger: when to check; see `get_trigger`.
        monitor: name of the value.
        patience: checks without improvement after which to stop.
        mode: whether lower ("min") or higher ("max") is better; "auto" takes "max" where the name has "accuracy" in it.
        verbose: print on rank 0 when the training is stopped.
        max_trigger: when to stop in any case.
        patients: the older name of `patience`.

    Attributes:
        best: the best value so far; None before there was one.
        count: checks since then.
        comm: the ranks that decide together; None is those of the trainer.

    Raises:
        ArgumentError: another mode, or a patience below 1.
    """

    is_collective = True
    comm: Communicator | None = None

    def __init__(
        self,
        check_trigger: Any = (1, "epoch"),
        monitor: str = "main/loss",
        patience: int = 3,
        mode: str = "auto",
        verbose: bool = False,
        max_trigger: Any = (100, "epoch"),
        *,
        patients: int | None = None,
    ) -> None:
        if mode not in _MODES:
            raise ArgumentError(f"the mode of early stopping is one of {', '.join(map(repr, _MODES))}, not {mode!r}")
        self.patience = patience if patients is None else patients
        if self.patience < 1:
            raise ArgumentError(f"the patience of early stopping must be at least 1 check, not {self.patience}")
        self.monitor, self.verbose = monitor, verbose
        self._higher_is_better = mode == "max" or (mode == "auto" and "accuracy" in monitor)
        self._check, self._max = get_trigger(check_trigger), get_trigger(max_trigger)
        self._mean = JobMean(monitor)
        self._best = math.nan  # none yet
        self.count = 0

    @property
    def best(self) -> float | None:
        """The best value so far; None before there was one."""
        return None if math.isnan(self._best) else self._best

    def __call__(self, trainer: Trainer) -> bool:
        """Whether to stop."""
        comm = self.comm or trainer.comm
        self._mean.add(trainer, comm)
        for inner in (self._check, self._max):
            if self.comm is not None:
                decide_among(inner, self.comm)
        check, end = self._check(trainer), self._max(trainer)  # both are asked: they count
        if check:
            self._look(trainer, comm)
        if check and self.count >= self.patience and self.verbose and comm.rank == 0:
            print(
                f"early stopping at epoch {trainer.updater.epoch}, iteration {trainer.updater.iteration}: "
                f"{self.monitor} was best at {self._best:g}, {self.count} checks ago",
                flush=True,
            )
        return end or (check and self.count >= self.patience)

    def _look(self, trainer: Trainer, comm: Communicator) -> None:
        value = self._mean.take(comm)
        if value is None:
            if math.isnan(self._best) and not self.count:
                self._mean.warn_of_absence(self, trainer)
            return
        better = is_higher if self._higher_is_better else is_lower
        if better(self._best, value) or (math.isnan(self._best) and not math.isnan(value)):
            self._best, self.count = value, 0
        else:
            self.count += 1

    def is_over(self, trainer: Trainer) -> bool:
        """Whether the training was stopped before a snapshot was saved."""
        max_is_over = getattr(self._max, "is_over", None)
        return self.count >= self.patience or bool(max_is_over and max_is_over(trainer))

    def get_training_length(self) -> tuple[float, str] | None:
        """The longest that it can take; read by the progress bar."""
        return training_length(self._max)

    def gather(self) -> None:
        """Moves the sums of all ranks to rank 0, for a snapshot; a collective call."""
        self._mean.gather()
        gather(self._check)
        gather(self._max)

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the best value, the checks since then, and the sums of the interval that has begun."""
        for name, inner in (("check_trigger", self._check), ("max_trigger", self._max)):
            if hasattr(inner, "serialize"):
                inner.serialize(serializer[name])
        self._mean.serialize(serializer["summary"])
        self._best = serializer("best", self._best)
        self.count = serializer("count", self.count)
