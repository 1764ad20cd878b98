"""What rank 0 knows about every rank of the job, and the file in which others can read it.

{"time": 1700000000.5, "world": 2, "channel": {"dropped": 0, "late": 0, "refused": 0, "malformed": 0},
 "ranks": [{"rank": 0, "host": "node1", "pid": 4711, "iteration": 120, "phase": "update", "seen": 1700000000.2,
            "state": "running", "time": {"data": 0.001, "forward": 0.01, "backward": 0.02, "exchange": 0.002,
            "update": 0.001}, "failure": null}, …]}
"""

from __future__ import annotations

import glob
import json
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Literal, TypeAlias

from distrain.files import atomic_write

State: TypeAlias = Literal["running", "silent", "failed", "done"]

PHASES = ("data", "forward", "backward", "exchange", "update")
"""The parts of an iteration that a heartbeat tells about, in the order of its message."""

FILE_NAME = "ranks.json"

_MIN_QUIET_S = 5.0
_EACH_S = 1.0


@dataclass(frozen=True, slots=True)
class RankState:
    """What is known about one rank.

    Attributes:
        rank: its number.
        host: name of its host.
        pid: its process there.
        iteration: the last complete one that it has told of.
        phase: what it had done last when it told so: a phase of the clock ("update"), or the extension that it was
            about to call.
        seen: when it was last heard of, in seconds since the epoch on rank 0's clock.
        state: "running"; "silent", if nothing was heard for longer than it takes ordinarily; "failed"; "done", when its
            training has ended well.
        time: mean seconds an iteration since the heartbeat before, by phase: data, forward, backward, exchange, update.
        failure: the line of the exception; None if it has not failed.
    """

    rank: int
    host: str
    pid: int
    iteration: int = 0
    phase: str = "start"
    seen: float = 0.0
    state: State = "running"
    time: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    failure: str | None = None


@dataclass
class Counters:
    """What did not go well on the side channel.

    Attributes:
        dropped: messages that found no room on their way, on all ranks.
        late: sums that came after their entry was written, or found no room in waiting for it.
        refused: connections that were not let in.
        malformed: messages that nobody of the job can have sent.
    """

    dropped: int = 0
    late: int = 0
    refused: int = 0
    malformed: int = 0


class RankStates:
    """The states of all ranks, as rank 0 keeps them. Threads may use it at the same time.

    Args:
        members: host and process of every rank, in their order.
        iteration: at which the training begins.
    """

    def __init__(self, members: Sequence[tuple[str, int]], iteration: int = 0) -> None:
        now, self._lock = time.time(), threading.Lock()
        self._states = [RankState(rank, host, pid, iteration, seen=now) for rank, (host, pid) in enumerate(members)]
        self._heard = [time.monotonic()] * len(members)
        self._quiet_s = [_MIN_QUIET_S] * len(members)
        self.counters = Counters()

    def beat(self, rank: int, iteration: int, phase: str, times: Sequence[float], quiet_s: float) -> None:
        """Takes a heartbeat.

        Args:
            rank: whose it is.
            iteration: the last complete one.
            phase: see `RankState`.
            times: mean seconds an iteration, in the order of `PHASES`; empty if there was none since the last one.
            quiet_s: so long the rank may be quiet now before it counts as silent; at least 5.
        """
        with self._lock:
            state = self._states[rank]
            if state.state in ("failed", "done"):
                return
            split = dict(zip(PHASES, times, strict=True)) if times else state.time
            self._states[rank] = replace(state, iteration=iteration, phase=phase, seen=time.time(), time=split)
            self._heard[rank], self._quiet_s[rank] = time.monotonic(), max(quiet_s, _MIN_QUIET_S)

    def end(self, rank: int, iteration: int, failure: str | None = None) -> None:
        """The training of a rank has ended; the first word about it counts.

        Args:
            rank: which.
            iteration: the last complete one.
            failure: the line of the exception; None if it has ended well.
        """
        with self._lock:
            state = self._states[rank]
            if state.state not in ("failed", "done"):
                how: State = "done" if failure is None else "failed"
                self._states[rank] = replace(state, iteration=iteration, seen=time.time(), state=how, failure=failure)

    def all(self) -> list[RankState]:
        """The states now, in the order of the ranks."""
        now = time.monotonic()
        with self._lock:
            return [
                replace(state, state="silent") if state.state == "running" and now - heard > quiet_s else state
                for state, heard, quiet_s in zip(self._states, self._heard, self._quiet_s, strict=True)
            ]

    def write(self, path: str | os.PathLike[str]) -> None:
        """Writes the states to a file, which is whole at any time. It is not fsynced: the next one comes soon.

        Raises:
            OSError: it cannot be written.
        """
        states = self.all()
        content = {
            "time": time.time(),
            "world": len(states),
            "channel": asdict(self.counters),
            "ranks": [asdict(state) for state in states],
        }
        with atomic_write(path, durable=False) as stream:
            stream.write(json.dumps(content).encode())


class StatesFile:
    """The file of `RankStates`, written anew once a second.

    Args:
        states: what is written.
        path: of the file.
        at_once: whether the first one is written at once, and not after a second.

    Attributes:
        problem: why it could not be written the last time; empty if it could.
    """

    def __init__(self, states: RankStates, path: str, at_once: bool) -> None:
        self.problem = ""
        self._states, self._path = states, path
        self._is_there = os.path.lexists(path)  # that of an earlier training
        folder, name = os.path.split(path)
        for left in glob.glob(f".{glob.escape(name)}.*.tmp", root_dir=folder or None):  # by one that was killed
            with suppress(OSError):
                os.unlink(os.path.join(folder, left))
        self._due = time.monotonic() + (0.0 if at_once or self._is_there else _EACH_S)

    def wait_s(self) -> float:
        """Seconds until it is due; 0 or less if it is."""
        return self._due - time.monotonic()

    def write(self) -> None:
        """Writes it now."""
        self._due = time.monotonic() + _EACH_S
        try:
            self._states.write(self._path)
            self._is_there, self.problem = True, ""
        except OSError as error:
            self.problem = f"{self._path} cannot be written: {error.strerror or error}"

    def finish(self) -> None:
        """Writes it for the last time; not where it has not come to be written at all."""
        if self._is_there or self.wait_s() <= 0:
            self.write()
