"""An extension that writes the means of reported values to a file."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from distrain import comm as comm_module
from distrain import minibatch, reproducible
from distrain.comm import Communicator
from distrain.errors import ArgumentError, SerializationError
from distrain.reporting import DictSummary, Sums
from distrain.reporting.merged import Merged
from distrain.training.extension import Extension, RunsOn
from distrain.training.extensions.log import Log
from distrain.training.side_channel import WAIT_S
from distrain.training.triggers import agreement
from distrain.training.triggers.trigger import get_trigger

_MOST_DUE = 64  # entries that a rank waits for without being asked for its log
_SHARE = 0.05  # of the time between two entries, that rank 0 may spend on waiting for sums
_NAP_S = 1e-3  # who lies down for less than that may get up much later, on a machine with more to do than cores
_GRACE_S = 0.1  # for sums whose rank has just come back from where it stood still

if TYPE_CHECKING:
    from distrain.reporting.channel import MergingStream, SendingStream
    from distrain.training.trainer import Trainer


class _Due(NamedTuple):
    """An entry that is being made, and what this rank has for it."""

    epoch: int
    iteration: int
    elapsed_time: float
    began: float  # by time.monotonic
    sums: dict[str, Sums]


class LogReport(Extension):
    """Averages what was reported over an interval, and writes the means to a JSON file: an array of objects.

        trainer.extend(extensions.LogReport(trigger=(100, "iteration")))

    An entry has the means by name, then "epoch", "iteration" and "elapsed_time" (seconds). Each iteration of the
    interval counts alike; within an iteration the ranks count by their share of the minibatch. All ranks have the same
    log; rank 0 writes it, each entry when it is complete. A second file with ".jsonl" appended to its name has one
    object a line. However long the training, no more than some thousand entries are kept in memory.

    The sums of the other ranks come through the side channel, and rank 0 trains on if that takes a while; whoever reads
    `log` waits for them. An entry that has to be made without those of some ranks has their numbers as "missing_ranks".
    If some ranks have not reported a value that others have, "missing_keys" is an object with the numbers of these
    ranks by its name; values that rank 0 alone reports are no such case.

    Args:
        keys: names of the values to average; None takes all.
        trigger: the interval; see `get_trigger`.
        postprocess: called with each entry before it is added, to change it in place.
        filename: name of the file in `trainer.out`, which may refer to the entry: "log_{epoch}". None writes none.
        log_name: the older name of `filename`.
        patience: seconds after which an entry is made without the sums that have not come.

    Raises:
        ArgumentError: `patience` is negative or no number.

    Attributes:
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
        patience: float = WAIT_S,
    ) -> None:
        if isinstance(patience, bool) or not isinstance(patience, (int, float)) or not 0 <= patience < math.inf:
            raise ArgumentError(f"LogReport(patience={patience!r}) must be a number of seconds, 0 or more")
        self._keys = None if keys is None else list(keys)
        self._trigger = get_trigger(trigger)
        self._postprocess = postprocess
        self._filename = log_name or filename
        self._summary = DictSummary()
        self._warned: set[str] = set()
        self._patience = patience
        self._merging: MergingStream | None = None
        self._sending: SendingStream | None = None
        self._due: deque[_Due] = deque()  # entries that need something of other ranks
        self._last_due_s = 0.0
        self._out = ""
        self._log = Log()

    @property
    def log(self) -> Log:
        """The entries so far; reads like a list. It waits, for the seconds of `patience`, for what is on its way."""
        if self._due:
            self._add_all()
        return self._log

    def initialize(self, trainer: Trainer) -> None:
        """Takes the trainer's ranks, unless it has its own."""
        if self.comm is None:
            self.comm = trainer.comm
        if self.comm.rank != 0:
            self._summary = DictSummary()  # a snapshot has the sums of all ranks, which count once
            if self._filename is not None:
                self._log.keep_recent()
        agreement.decide_among(self._trigger, self.comm)
        self._merging, self._sending = trainer.side_channel.new_streams(self.comm, 2 * self._patience)

    def __call__(self, trainer: Trainer) -> None:
        """Adds the observation of this iteration; at the end of an interval, writes an entry."""
        if self.comm is None:
            self.comm = trainer.comm
        observation = trainer.observation
        if self._keys is not None:
            observation = {key: observation[key] for key in self._keys if key in observation}
        share = minibatch.current()
        weight = 1.0 if share is None else share.weight
        if reproducible.shards():  # what is reported is the mean over all ranks already, and counts once
            weight = float(self.comm.rank == 0)
        self._summary.add(observation, weight)
        if self._summary.first_nonfinite:
            self._warn_nonfinite(trainer.updater.iteration, self._summary.first_nonfinite, "in")
        if self._trigger(trainer):
            summary, self._summary = self._summary, DictSummary()
            iteration, now = int(trainer.updater.iteration), time.monotonic()
            due = _Due(trainer.updater.epoch, iteration, trainer.elapsed_time, now, summary.sums())
            self._out = trainer.out
            if self._merging is None and self._sending is None:
                self._add_entry(due, self._by_collective(due))
                return
            self._due.append(due)
            if self._sending is not None:
                self._sending.send(due.iteration, due.sums)
        if self._due:
            self._add_what_is_there()

    def gather(self) -> None:
        """Moves the sums of all ranks to rank 0, for a snapshot; a collective call, allowed at any time."""
        if self.comm is not None and self.comm.size > 1:
            self._summary = self._summary.gathered(self.comm)
            agreement.gather(self._trigger)

    def _by_collective(self, due: _Due) -> Merged:
        """The means over all ranks, with the clock of rank 0, where there is no side channel."""
        comm = self.comm or comm_module.world()
        parts = [(due.sums, due.elapsed_time)]
        if comm.size > 1:
            parts = comm.allgather_obj(parts[0])
        summary = DictSummary()
        for sums, _ in parts:
            summary.merge(sums)
        return Merged(due.iteration, parts[0][1], summary.compute_mean())

    def _add_what_is_there(self) -> None:
        """Adds entries that are complete. Rank 0 waits a little for the newest one, but not where entries are many."""
        if self._sending is not None:
            self._add_arrived(self._sending, wait=False)
        elif self._merging is not None:
            newest = self._due[-1]
            since_last, self._last_due_s = newest.elapsed_time - self._last_due_s, newest.elapsed_time
            wait_s = _SHARE * since_last
            self._add_merged(self._merging, min(self._patience, wait_s) if wait_s >= _NAP_S else 0.0)

    def _add_all(self) -> None:
        """Adds all entries that are due, and waits for what they need as long as the patience lasts."""
        if self._sending is not None:
            self._add_arrived(self._sending, wait=True)
        elif self._merging is not None:
            self._add_merged(self._merging, None)

    def _add_merged(self, stream: MergingStream, wait_s: float | None) -> None:
        """Adds the entries that have the sums of all ranks, and those for which they have not come in time.

        Args:
            stream: of this log.
            wait_s: for the sums that have not come yet; None for the rest of the patience, after which the entries are
                made without.
        """
        while self._due:
            due = self._due[0]
            rest = due.began + self._patience - time.monotonic()
            is_final = wait_s is None or rest <= 0 or len(self._due) > _MOST_DUE
            seconds = max(rest, min(self._patience, _GRACE_S)) if is_final else min(rest, wait_s or 0.0)
            merged = stream.merge(due.iteration, due.sums, due.elapsed_time, seconds, is_final)
            if merged is None:
                return
            self._due.popleft()
            self._add_entry(due, merged)

    def _add_arrived(self, stream: SendingStream, wait: bool) -> None:
        """Adds the entries that rank 0 has sent; they come in order, so what is behind another is lost."""
        arrived = stream.receive(self._due[-1].iteration, wait)
        newest = max(arrived, default=-1)
        while self._due and (wait or self._due[0].iteration <= newest or len(self._due) > 4 * _MOST_DUE):
            due = self._due.popleft()
            merged = arrived.get(due.iteration)
            if merged is None:
                merged = stream.alone(due.iteration, due.sums, due.elapsed_time)
            self._add_entry(due, merged)

    def _add_entry(self, due: _Due, merged: Merged) -> None:
        """Adds an entry to the log, and on rank 0 to the file."""
        is_first = self.comm is None or self.comm.rank == 0
        if is_first:
            bad = [key for key, mean in merged.means.items() if mean - mean != 0.0]
            self._warn_nonfinite(due.iteration, bad, "up to")
        entry: dict[str, Any] = {
            **merged.means,
            "epoch": due.epoch,
            "iteration": due.iteration,
            "elapsed_time": merged.elapsed_time,
        }
        if merged.missing_ranks:
            entry["missing_ranks"] = merged.missing_ranks
        if merged.missing_keys:
            entry["missing_keys"] = merged.missing_keys
        if self._postprocess is not None:
            self._postprocess(entry)
        if self._filename is not None and is_first:
            path = os.path.join(self._out, self._filename.format(**entry))
            if path != self._log.path:
                self._log.attach(path)
        self._log.append(entry)

    def finalize(self) -> None:
        """Adds what is still due."""
        if self._due:
            self._add_all()

    def _warn_nonfinite(self, iteration: int, keys: Iterable[str], when: str) -> None:
        new = [key for key in keys if key not in self._warned]
        if not new:
            return
        self._warned.update(new)
        comm = self.comm
        place = f" on rank {comm.rank} of {comm.size}" if comm is not None and comm.size > 1 else ""
        warnings.warn(
            f"{', '.join(new)}: NaN or infinite {when} iteration {iteration}{place}; this is not said "
            "again. extensions.FailOnNonNumber() stops the training there."
        )

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the log, and the sums of the interval that has begun."""
        if hasattr(self._trigger, "serialize"):
            self._trigger.serialize(serializer["_trigger"])
        self._summary.serialize(serializer["_summary"])
        text = serializer("_log", self.log.to_json() if serializer.is_writer else None)
        if not serializer.is_writer and text is not None:
            self._log, self._due = Log(_decode(text)), deque()


def _decode(text: str) -> list[dict[str, Any]]:
    try:
        log = json.loads(text or "[]")  # an empty log was an empty string in older files
    except json.JSONDecodeError as error:
        raise SerializationError(f"the log in the file is no JSON: {error}") from error
    if not isinstance(log, list):
        raise SerializationError(f"the log in the file is no JSON array but a {type(log).__name__}")
    return log
