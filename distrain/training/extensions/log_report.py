"""An extension that writes the means of reported values to a file."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from distrain import comm as comm_module
from distrain import minibatch, reproducible
from distrain.comm import Communicator
from distrain.errors import SerializationError
from distrain.reporting import DictSummary
from distrain.training.extension import Extension, RunsOn
from distrain.training.extensions.log import Log
from distrain.training.triggers import agreement
from distrain.training.triggers.trigger import get_trigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer


class LogReport(Extension):
    """Averages what was reported over an interval, and writes the means to a JSON file: an array of objects.

        trainer.extend(extensions.LogReport(trigger=(100, "iteration")))

    An entry has the means by name, then "epoch", "iteration" and "elapsed_time" (seconds). Each iteration of the
    interval counts alike; within an iteration the ranks count by their share of the minibatch. All ranks have the same
    log; rank 0 writes it, each entry as it comes. A second file with ".jsonl" appended to its name has one object a
    line. However long the training, no more than some thousand entries are kept in memory.

    Args:
        keys: names of the values to average; None takes all.
        trigger: the interval; see `get_trigger`.
        postprocess: called with each entry before it is added, to change it in place.
        filename: name of the file in `trainer.out`, which may refer to the entry: "log_{epoch}". None writes none.
        log_name: the older name of `filename`.

    Attributes:
        log: the entries so far; reads like a list.
        comm: the ranks whose values are averaged; None is those of the trainer.
    """

    runs_on: RunsOn = "all"
    comm: Communicator | None = None

    def __init__(
        self,
        keys: Iterable[str] | None = None,
        trigger: Any = (1, "epoch"),
        postprocess: Callable[[dict[str, Any]], Any] | None = None,
        filename: str | None = "log",
        *,
        log_name: str | None = None,
    ) -> None:
        self._keys = None if keys is None else list(keys)
        self._trigger = get_trigger(trigger)
        self._postprocess = postprocess
        self._filename = log_name or filename
        self._summary = DictSummary()
        self._warned: set[str] = set()
        self.log = Log()

    def initialize(self, trainer: Trainer) -> None:
        """Takes the trainer's ranks, unless it has its own."""
        if self.comm is None:
            self.comm = trainer.comm
        if self.comm.rank != 0:
            self._summary = DictSummary()  # a snapshot has the sums of all ranks, which count once
            if self._filename is not None:
                self.log.keep_recent()
        agreement.decide_among(self._trigger, self.comm)

    def __call__(self, trainer: Trainer) -> None:
        """Adds the observation of this iteration; at the end of an interval, writes an entry."""
        observation = trainer.observation
        if self._keys is not None:
            observation = {key: observation[key] for key in self._keys if key in observation}
        share = minibatch.current()
        weight = 1.0 if share is None else share.weight
        if reproducible.shards():  # what is reported is the mean over all ranks already, and counts once
            weight = float((self.comm or trainer.comm).rank == 0)
        self._summary.add(observation, weight)
        if self._summary.first_nonfinite:
            self._warn_nonfinite(trainer, self._summary.first_nonfinite, "in")
        if self._trigger(trainer):
            summary, elapsed_time = self._of_all_ranks(trainer.elapsed_time)
            self._summary = DictSummary()
            means = summary.compute_mean()
            if (self.comm or trainer.comm).rank == 0:
                self._warn_nonfinite(trainer, [key for key, mean in means.items() if mean - mean != 0.0], "up to")
            self._add_entry(trainer, means, elapsed_time)

    def gather(self) -> None:
        """Moves the sums of all ranks to rank 0, for a snapshot; a collective call, allowed at any time."""
        if self.comm is not None and self.comm.size > 1:
            self._summary = self._summary.gathered(self.comm)
            agreement.gather(self._trigger)

    def _of_all_ranks(self, elapsed_time: float) -> tuple[DictSummary, float]:
        """The sums of all ranks, and the clock of rank 0."""
        comm = self.comm or comm_module.world()
        if comm.size == 1:
            return self._summary, elapsed_time
        parts = comm.allgather_obj((self._summary.sums(), elapsed_time))
        merged = DictSummary()
        for sums, _ in parts:
            merged.merge(sums)
        return merged, parts[0][1]

    def _add_entry(self, trainer: Trainer, means: dict[str, float], elapsed_time: float) -> None:
        entry: dict[str, Any] = {
            **means,
            "epoch": trainer.updater.epoch,
            "iteration": trainer.updater.iteration,
            "elapsed_time": elapsed_time,
        }
        if self._postprocess is not None:
            self._postprocess(entry)
        if self._filename is not None and (self.comm or trainer.comm).rank == 0:
            path = os.path.join(trainer.out, self._filename.format(**entry))
            if path != self.log.path:
                self.log.attach(path)
        self.log.append(entry)

    def _warn_nonfinite(self, trainer: Trainer, keys: Iterable[str], when: str) -> None:
        new = [key for key in keys if key not in self._warned]
        if not new:
            return
        self._warned.update(new)
        comm = self.comm or trainer.comm
        place = f" on rank {comm.rank} of {comm.size}" if comm.size > 1 else ""
        warnings.warn(
            f"{', '.join(new)}: NaN or infinite {when} iteration {trainer.updater.iteration}{place}; this is not said "
            "again. extensions.FailOnNonNumber() stops the training there."
        )

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the log, and the sums of the interval that has begun."""
        if hasattr(self._trigger, "serialize"):
            self._trigger.serialize(serializer["_trigger"])
        self._summary.serialize(serializer["_summary"])
        text = serializer("_log", self.log.to_json() if serializer.is_writer else None)
        if not serializer.is_writer and text is not None:
            self.log = Log(_decode(text))


def _decode(text: str) -> list[dict[str, Any]]:
    try:
        log = json.loads(text or "[]")  # an empty log was an empty string in older files
    except json.JSONDecodeError as error:
        raise SerializationError(f"the log in the file is no JSON: {error}") from error
    if not isinstance(log, list):
        raise SerializationError(f"the log in the file is no JSON array but a {type(log).__name__}")
    return log
