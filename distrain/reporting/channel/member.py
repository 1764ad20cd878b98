"""A rank's end of the side channel. No thread: the training thread sends, and never waits."""

from __future__ import annotations

import time
import warnings
from collections import deque
from collections.abc import Sequence
from typing import Any

import zmq

from distrain.errors import WireError
from distrain.reporting.channel import address
from distrain.reporting.channel.address import Announcement
from distrain.reporting.channel.messages import Beat, Done, Failed, Report, pack, unpack_entry
from distrain.reporting.merged import Merged

_WAITING = 64  # messages that wait here for room in ZeroMQ
_PATIENCE_S = 10.0  # after which a channel that takes nothing is spoken of
_LEAVE_MS = 200
_AT_ONCE = 100  # messages that are read in one go


class Member:
    """What rank 1, 2, … has of the side channel.

    Args:
        announced: by rank 0.
        rank: of this process.
        host: of this process, as rank 0 knows it.

    Attributes:
        rank: as given.
        dropped: messages that found no room, or could not be packed.
        is_leaving: the training has failed or ended, and nothing is waited for any more.

    Raises:
        ArgumentError: there is no such address.
        zmq.ZMQError: the system has no room for another socket.
    """

    def __init__(self, announced: Announcement, rank: int, host: str) -> None:
        self.rank = rank
        self.dropped = 0
        self.is_leaving = False
        self._waiting: deque[bytes] = deque()
        self._inbox: dict[int, deque[Merged]] = {}  # by log
        self._stuck_since: float | None = None
        self._has_warned = False
        self._context: zmq.Context[Any] | None
        self._context, self._socket = address.connect(announced, rank, host)

    def send(self, message: Report) -> None:
        """Sends a message, or keeps it until there is room; if there is none, the oldest that was kept goes."""
        try:
            packed = pack(message)
        except WireError as error:
            self.dropped += 1
            self._warn(f"cannot send this to rank 0: {error}; it is left out")
            return
        if len(self._waiting) >= _WAITING:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(packed)
        self._flush()

    def beat(self, iteration: int, phase: str, times: Sequence[float], quiet_s: float) -> None:
        """Sends a heartbeat; see `RankStates.beat`. What rank 0 has sent is taken in, so that it does not pile up."""
        self.read()
        self.send(Beat(iteration, phase, times, quiet_s, self.dropped))

    def fail(self, iteration: int, text: str) -> None:
        """Says that the training has failed here. From now on nothing is waited for."""
        self.is_leaving = True
        self.send(Failed(iteration, text))

    def done(self, iteration: int) -> None:
        """Says that the training has ended well."""
        self.send(Done(iteration))

    def _flush(self) -> None:
        if self._context is None:
            self._waiting.clear()
            return
        waiting = self._waiting
        try:
            while waiting:
                self._socket.send(waiting[0], zmq.DONTWAIT)
                waiting.popleft()
            self._stuck_since = None
        except zmq.ZMQError:  # Again: no connection, or no room
            now = time.monotonic()
            if self._stuck_since is None:
                self._stuck_since = now
            elif now - self._stuck_since > _PATIENCE_S:
                self._warn(
                    f"has not been able to send anything to rank 0 for {now - self._stuck_since:.0f} s; the training "
                    "goes on, but its entries in the log and its heartbeats are missing"
                )

    def _warn(self, text: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(f"the side channel of rank {self.rank} {text}. This is not said again.", stacklevel=3)

    def arrivals(self, stream: int, wait_s: float = 0.0) -> list[Merged]:
        """The entries of a log that have come from rank 0; waits for something to come, if asked to.

        Args:
            stream: which log.
            wait_s: seconds.
        """
        self.read()
        if wait_s > 0 and not self._inbox.get(stream) and not self.is_leaving:
            self._flush()
            self._socket.poll(max(1, int(1000 * wait_s)))
            self.read()
        return list(self._inbox.pop(stream, ()))

    def read(self) -> None:
        """Takes in what has come."""
        for _ in range(_AT_ONCE if self._context is not None else 0):
            try:
                entry = unpack_entry(self._socket.recv(zmq.DONTWAIT))
            except WireError:
                continue
            except zmq.ZMQError:
                return
            self._inbox.setdefault(entry.stream, deque(maxlen=_AT_ONCE)).append(entry.merged)

    def close(self) -> None:
        """Gives what is on its way a fifth of a second, and leaves. The second call does nothing."""
        self.is_leaving = True
        if self._context is None:
            return
        if self._waiting and self._socket.poll(_LEAVE_MS, zmq.POLLOUT):
            self._flush()
        context, self._context = self._context, None
        self._socket.setsockopt(zmq.LINGER, _LEAVE_MS)
        self._socket.close()
        context.term()
