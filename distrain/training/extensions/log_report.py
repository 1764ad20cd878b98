"""An extension that writes the means of reported values to a file."""

from __future__ import annotations

import json
import math
import os
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from distrain import comm as comm_module
from distrain import minibatch, reproducible
from distrain.comm import Communicator
from distrain.errors import SerializationError
from distrain.reporting import DictSummary
from distrain.training.extension import Extension, RunsOn
from distrain.training.trigger import get_trigger

if TYPE_CHECKING:
    from distrain.training.trainer import Trainer

_SHORTEST_S = 1.0  # between two replacements of a file; one can take milliseconds


class LogReport(Extension):
    """Averages what was reported over an interval, and writes the means to a JSON file: an array of objects.

        trainer.extend(extensions.LogReport(trigger=(100, "iteration")))

    An entry has the means by name, then "epoch", "iteration" and "elapsed_time" (seconds). Each iteration of the
    interval counts alike; within an iteration the ranks count by their share of the minibatch. All ranks have the same
    log; rank 0 writes it. The file is replaced as a whole, so that a reader never sees half of it; at most once a
    second, and at the end of the training.

    Args:
        keys: names of the values to average; None takes all.
        trigger: the interval; see `get_trigger`.
        postprocess: called with each entry before it is added, to change it in place.
        filename: name of the file in `trainer.out`, which may refer to the entry: "log_{epoch}". None writes none.
        log_name: the older name of `filename`.

    Attributes:
        log: the entries so far.
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
        self._encoded: list[str] = []
        self._path = ""
        self._written = -math.inf
        self._is_complete = True
        self.log: list[dict[str, Any]] = []

    def initialize(self, trainer: Trainer) -> None:
        """Takes the trainer's ranks, unless it has its own."""
        if self.comm is None:
            self.comm = trainer.comm
        if self.comm.rank != 0:
            self._summary = DictSummary()  # a snapshot has the sums of all ranks, which count once

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
        elif not self._is_complete:
            self._write_if_due()

    def gather(self) -> None:
        """Moves the sums of all ranks to rank 0, for a snapshot; a collective call, allowed at any time."""
        if self.comm is not None and self.comm.size > 1:
            summary, _ = self._of_all_ranks(0.0)
            self._summary = summary if self.comm.rank == 0 else DictSummary()

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
        if self._filename is None or (self.comm is not None and self.comm.rank != 0):
            self.log.append(entry)
            return
        path = os.path.join(trainer.out, self._filename.format(**entry))
        if path != self._path:
            self.finalize()
            self._path, self._written = path, -math.inf
        self.log.append(entry)
        self._is_complete = False
        self._write_if_due()

    def finalize(self) -> None:
        """Brings the file up to date."""
        if not self._is_complete:
            self._write()

    def _write_if_due(self) -> None:
        if time.monotonic() - self._written >= _SHORTEST_S:
            self._write()

    def _write(self) -> None:
        """Replaces the file. It is not fsynced, which would cost as much as many steps; a snapshot has the log too."""
        self._encoded += [_encode(entry) for entry in self.log[len(self._encoded) :]]
        handle, temporary = tempfile.mkstemp(prefix=".log", dir=os.path.dirname(self._path) or ".")
        try:
            with open(handle, "w") as stream:
                stream.write("[\n" + ",\n".join(self._encoded) + "\n]")
            os.chmod(temporary, 0o644)
            os.replace(temporary, self._path)
        except BaseException:
            os.unlink(temporary)
            raise
        self._written, self._is_complete = time.monotonic(), True

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
        text = serializer("_log", json.dumps(self.log))
        if not serializer.is_writer:
            self.log = _decode(text)
            self._encoded = []


def _encode(entry: dict[str, Any]) -> str:
    return textwrap.indent(json.dumps(entry, indent=4), "    ")


def _decode(text: str) -> list[dict[str, Any]]:
    try:
        log = json.loads(text or "[]")  # an empty log was an empty string in older files
    except json.JSONDecodeError as error:
        raise SerializationError(f"the log in the file is no JSON: {error}") from error
    if not isinstance(log, list):
        raise SerializationError(f"the log in the file is no JSON array but a {type(log).__name__}")
    return log
