"""How the attempts of a job have ended: a failure, the time limit, or a preemption.

A job that may be started again (`distrain.restart`) has a file `.attempts` in the directory of its training, so the
count travels with the results and not with whoever starts the job. Rank 0 writes it when the first step is about to be
made, and when the training ends. An attempt that does not say how it ended has failed.
"""

from __future__ import annotations

import json
import os
import signal
import warnings
from collections.abc import Sequence
from types import TracebackType

from distrain import black_box, restart
from distrain.comm import Communicator
from distrain.files import atomic_write

FAILURE, TIME_LIMIT, PREEMPTION, COMPLETE = "failure", "time limit", "preemption", "complete"

_FILE = ".attempts"
_begun: dict[str, int] = {}
"""By directory: how many attempts there had been when this process began to train there."""


class Attempt:
    """A `with` block in which this attempt of the job trains. It has failed unless the block is left without an error.

    Args:
        out: directory of the training.
        comm: the ranks that train together.
    """

    def __init__(self, out: str, comm: Communicator) -> None:
        self._out, self._counts = out, restart.is_on() and comm.rank == 0
        self._end = COMPLETE

    def __enter__(self) -> Attempt:
        if self._counts:
            before = earlier(self._out)
            _begun.setdefault(os.path.realpath(self._out), len(before))
            black_box.note_failures(before.count(FAILURE))
        self._note(None)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._note(self._end if kind is None else FAILURE)

    def stop(self, number: int) -> None:
        """A signal has stopped it: batch systems send USR1 or USR2 before the time limit, TERM to make room.

        Noted at once, for the time that is left may be too short for anything else.
        """
        self._end = PREEMPTION if number == signal.SIGTERM else TIME_LIMIT
        self._note(self._end)

    def _note(self, how: str | None) -> None:
        if self._counts:
            _write(self._out, [*earlier(self._out), how])


def earlier(out: str) -> list[str]:
    """How the attempts before this one have ended, the oldest first; none if there were none, or no job has a name."""
    ends = [FAILURE if end is None else end for end in _read(out)]
    return ends[: _begun.get(os.path.realpath(out), len(ends))]


def title(ends: Sequence[str]) -> str:
    """The start that comes after those that have ended so: "start 4 (1 after a failure, 2 after the time limit)"."""
    names = {FAILURE: "a failure", TIME_LIMIT: "the time limit", PREEMPTION: "a preemption"}
    counts = [f"{count} after {name}" for end, name in names.items() if (count := ends.count(end))]
    return f"start {len(ends) + 1}" + (f" ({', '.join(counts)})" if counts else "")


def _read(out: str) -> list[str | None]:
    """The ends as the file has them; none if there is no such file of this job."""
    try:
        with open(os.path.join(out, _FILE), encoding="utf-8") as stream:
            noted = json.load(stream)
        return list(noted["ends"]) if noted["job"] == restart.job() else []
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _write(out: str, ends: Sequence[str | None]) -> None:
    try:
        with atomic_write(os.path.join(out, _FILE)) as stream:
            stream.write(json.dumps({"job": restart.job(), "ends": ends}).encode() + b"\n")
    except OSError as error:  # a full disk is no reason to end a training
        warnings.warn(f"the attempts of this job cannot be counted: {error}", stacklevel=2)
