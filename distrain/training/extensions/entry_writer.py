"""What extensions have in common that write the log for another program."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from distrain import rng
from distrain.training.extension import Extension, RunsOn

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

Outcome: TypeAlias = Literal["finished", "failed", "interrupted"]


class EntryWriter(Extension):
    """Hands the entries of a LogReport on as they come, on rank 0.

    What cannot be written does not end the training: one warning says so, and it is tried again with the next entry and
    at the end. Entries that a snapshot has brought are not written again.

    Args:
        log_report: name of the LogReport in the trainer.
    """

    runs_on: RunsOn = "rank0"

    def __init__(self, log_report: str) -> None:
        self._log_report = log_report
        self._trainer: Trainer | None = None
        self._written = 0
        self._has_warned = False
        self._outcome: Outcome = "finished"

    @abstractmethod
    def open(self, trainer: Trainer) -> None:
        """Called before the first step, after a snapshot has been loaded."""

    @abstractmethod
    def write(self, entries: list[dict[str, Any]]) -> None:
        """Writes entries of the log."""

    @abstractmethod
    def close(self, outcome: Outcome) -> None:
        """Called once at the end, if `open` has been called and has succeeded."""

    def initialize(self, trainer: Trainer) -> None:
        """Opens what is to be written to."""
        self._written = len(trainer.get_extension(self._log_report).log)
        self.open(trainer)
        self._trainer = trainer

    def __call__(self, trainer: Trainer) -> None:
        """Writes what has come to the log since the last call."""
        log = trainer.get_extension(self._log_report).log
        if len(log) <= self._written:
            return
        try:
            self.write(list(log[self._written :]))
            self._written = len(log)
        except Exception as error:  # whatever a client of another program raises
            self._warn(f"cannot be written ({type(error).__name__}: {error}); it is tried again with the next one")

    def on_error(self, trainer: Trainer, exc: BaseException, tb: TracebackType | None) -> None:
        """Notes how the training has ended."""
        self._outcome = "failed" if isinstance(exc, Exception) else "interrupted"

    def finalize(self) -> None:
        """Writes what is left, and closes."""
        trainer, self._trainer = self._trainer, None
        if trainer is None:
            return
        self(trainer)
        try:
            self.close(self._outcome)
        except Exception as error:
            self._has_warned = False
            self._warn(f"may not all be there: closing failed ({type(error).__name__}: {error})")

    def _warn(self, what: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"{type(self).__name__}: entries of the log {what}. The log in {self._out()} has them all.")

    def _out(self) -> str:
        return self._trainer.out if self._trainer is not None else "the result folder"


def facts(trainer: Trainer) -> dict[str, Any]:
    """What is worth knowing of a training beside what the user says."""
    return {"seed": rng.seed(), "ranks": trainer.comm.size}
