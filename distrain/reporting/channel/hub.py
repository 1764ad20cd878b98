"""Rank 0's end of the side channel: a thread that listens.

It must be a thread: when a rank stands still, rank 0's training waits for it inside a collective, and just then it
matters who was heard of last. It makes no call of MPI, takes turns with the training only when a message comes, and
whatever happens to it, the training goes on.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from itertools import islice
from typing import TypeAlias

import zmq

from distrain import wire
from distrain.errors import WireError
from distrain.reporting.channel.address import Announcement, Door
from distrain.reporting.channel.messages import Beat, Entry, Failed, Part, Report, pack, unpack_report
from distrain.reporting.rank_states import FILE_NAME, RankStates, StatesFile
from distrain.reporting.summary import Sums

Parts: TypeAlias = dict[int, dict[str, Sums]]
"""What ranks have summed up, by rank."""

_AT_ONCE = 1000  # messages that are read in one go
_ENTRIES = 1024  # that may wait for rank 0 to come to them
_MAIL = 1000  # messages to the ranks that may wait for the thread
_CLOSE_S = 5.0
_LEAVE_MS = 200


class Hub:
    """What rank 0 has of the side channel.

    Args:
        door: the sockets; the hub's from now on.
        announced: what the ranks were told.
        states: of all ranks, which the hub keeps up to date.
        file: of the states.

    Attributes:
        is_leaving: rank 0's training has failed, and nothing is waited for any more.
        notes: what the user should be told; whoever trains says it, so that a warning that is an error does not meet a
            thread.
    """

    def __init__(self, door: Door, announced: Announcement, states: RankStates, file: StatesFile) -> None:
        size = len(states.all())
        self.is_leaving = False
        self.notes: deque[str] = deque(maxlen=100)
        self._door, self._states, self._file = door, states, file
        self._members = {rank: announced.identity(rank) for rank in range(1, size)}
        self._ranks = {identity: rank for rank, identity in self._members.items()}
        self._condition = threading.Condition()  # of what follows
        self._parts: dict[tuple[int, int], Parts] = {}  # by log and iteration
        self._taken: dict[int, int] = {}  # the last iteration of a log that rank 0 has taken
        self._wanted: tuple[int, int] | None = None
        self._awaited: set[int] = set()
        self._late: set[int] = set()
        self._ended: set[int] = set()
        self._is_over = False
        self._dropped = dict.fromkeys(range(size), 0)  # by rank; rank 0's are messages to the others
        self._said: set[str] = set()
        self._mail: deque[bytes] = deque()
        self._stop = threading.Event()
        self._ear, self._bell = os.pipe()
        os.set_blocking(self._ear, False)
        os.set_blocking(self._bell, False)
        self._thread = threading.Thread(target=self._run, name="distrain side channel", daemon=True)
        self._thread.start()

    # The training thread

    def take(self, stream: int, iteration: int, wait_s: float, is_final: bool) -> Parts | None:
        """The sums of the other ranks for an entry; what comes later is late.

        It waits for ranks that have not sent theirs, but not for those that were late before and have sent no sums
        since, nor for those whose training has ended.

        Args:
            stream: which log.
            iteration: of the entry.
            wait_s: seconds to wait at most.
            is_final: whether those that have not come by then are late. If not, None is returned and nothing taken.
        """
        key, end = (stream, iteration), time.monotonic() + wait_s
        with self._condition:
            parts = self._parts.setdefault(key, {})
            self._awaited = self._members.keys() - parts.keys() - self._late - self._ended
            self._wanted = key
            while self._awaited and not self._is_over and not self.is_leaving:
                rest = end - time.monotonic()
                if rest <= 0:
                    if not is_final:
                        self._wanted = None
                        return None
                    self._late |= self._awaited
                    break
                self._condition.wait(rest)
            self._wanted, self._taken[stream] = None, iteration
            for old in [other for other in self._parts if other[0] == stream and other[1] <= iteration]:
                found = self._parts.pop(old)
                if old != key:
                    self._states.counters.late += len(found)
        return parts

    def send(self, entry: Entry) -> None:
        """Sends an entry to the other ranks."""
        try:
            packed = pack(entry)
        except WireError as error:
            self._say(f"cannot send an entry of the log to the other ranks: {error}")
            return
        if len(self._mail) >= _MAIL:
            self._mail.popleft()
            self._dropped[0] += 1
        self._mail.append(packed)
        self._ring()

    def wait_for_ends(self, wait_s: float) -> None:
        """Waits until all ranks have said that their training has ended, but no longer than so many seconds."""
        end = time.monotonic() + wait_s
        with self._condition:
            while self._members.keys() - self._ended and not self._is_over:
                rest = end - time.monotonic()
                if rest <= 0 or not self._condition.wait(rest):
                    return

    def close(self) -> None:
        """Sends what is on its way, writes the file, and ends the thread. The second call does nothing."""
        self._stop.set()
        if self._thread.is_alive():
            self._ring()
            self._thread.join(_CLOSE_S)

    def _ring(self) -> None:
        with self._condition:
            if not self._is_over:
                try:
                    os.write(self._bell, b"!")
                except BlockingIOError:  # it rings already
                    pass

    # The hub's thread

    def _run(self) -> None:
        try:
            self._serve()
        except Exception as error:  # nothing here may end the job
            self._say(f"has ended: {type(error).__name__}: {error}. The training goes on without it")
        finally:
            with self._condition:
                self._is_over = True
                self._condition.notify_all()
                os.close(self._ear)
                os.close(self._bell)
            self._leave()

    def _serve(self) -> None:
        poller = zmq.Poller()
        for source in self._sources():
            poller.register(source, zmq.POLLIN)
        while not self._stop.is_set():
            poller.poll(max(0, int(1000 * self._file.wait_s()) + 1))
            self._look()
            if self._file.wait_s() <= 0:
                self._write()
        self._look()
        self._file.finish()

    def _sources(self) -> list[zmq.Socket[bytes] | int]:
        door = self._door
        guard = [] if door.authenticator is None else [door.authenticator.socket]
        return [self._ear, door.hub, door.connections.socket, *guard]

    def _look(self) -> None:
        """Does what there is to do."""
        try:
            os.read(self._ear, 4096)
        except BlockingIOError:
            pass
        self._attend_door()
        for identity, frames in islice(wire.waiting_messages(self._door.hub), _AT_ONCE):
            self._receive(identity, frames)
        while self._mail:
            packed = self._mail.popleft()
            for rank, identity in self._members.items():
                if rank not in self._ended and not wire.send_to(self._door.hub, identity, packed):
                    self._dropped[0] += 1
        self._states.counters.dropped = sum(self._dropped.values())

    def _attend_door(self) -> None:
        door, counters = self._door, self._states.counters
        while door.authenticator is not None and door.authenticator.answer():
            pass
        reasons = door.connections.read()
        counters.refused += len(reasons)
        if reasons:
            self._say(f"at {door.bound} has refused a connection: {reasons[0]}", "refused")

    def _receive(self, identity: bytes, frames: list[bytes]) -> None:
        rank = self._ranks.get(identity)
        try:
            if rank is None:
                raise WireError("a message of somebody who is no rank of this training")
            if len(frames) != 1:
                raise WireError(f"a message of {len(frames)} frames")
            self._hear(rank, unpack_report(frames[0]))
        except WireError as error:
            self._states.counters.malformed += 1
            self._say(f"has left out a message: {error}", "malformed")

    def _hear(self, rank: int, report: Report) -> None:
        if isinstance(report, Part):
            self._take_part(rank, report)
        elif isinstance(report, Beat):
            self._states.beat(rank, report.iteration, report.phase, report.times, report.quiet_s)
            self._dropped[rank] = report.dropped
            if report.dropped:
                self._say(f"of rank {rank} has dropped messages; {FILE_NAME} counts them", f"dropped {rank}")
        else:
            is_failure = isinstance(report, Failed)
            self._states.end(rank, report.iteration, report.text if isinstance(report, Failed) else None)
            with self._condition:
                self._ended.add(rank)
                self._awaited.discard(rank)
                self._condition.notify_all()
            if is_failure:  # rank 0 may not live much longer
                self._write()

    def _take_part(self, rank: int, part: Part) -> None:
        key = part.stream, part.iteration
        with self._condition:
            self._late.discard(rank)
            if part.iteration <= self._taken.get(part.stream, -1):
                self._states.counters.late += 1
                return
            self._parts.setdefault(key, {})[rank] = part.sums
            while len(self._parts) > _ENTRIES:
                self._states.counters.late += len(self._parts.pop(next(iter(self._parts))))
            if key == self._wanted:
                self._awaited.discard(rank)
                if not self._awaited:
                    self._condition.notify_all()

    def _write(self) -> None:
        self._file.write()
        if self._file.problem:
            self._say(f"cannot keep its file: {self._file.problem}", "file")

    def _say(self, text: str, kind: str | None = None) -> None:
        """Notes something for the user, of each kind once."""
        kind = kind or text
        if kind not in self._said:
            self._said.add(kind)
            self.notes.append(text)

    def _leave(self) -> None:
        try:
            self._door.hub.setsockopt(zmq.LINGER, _LEAVE_MS)  # unbinding ends the connections
            self._door.hub.unbind(self._door.bound)
            self._door.connections.close()
            self._door.context.destroy(linger=_LEAVE_MS)
        except Exception as error:  # as above
            self._say(f"cannot be closed: {type(error).__name__}: {error}")
