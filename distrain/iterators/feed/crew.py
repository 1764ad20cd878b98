"""The feeders of a rank: starts them, sees at once when one dies, and keeps what it said last."""

from __future__ import annotations

import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from distrain import wire
from distrain.errors import FeedError
from distrain.iterators.feed import nursery

STOPPED_LOOKS = 10
"""Looks in a row at which a process is stopped, after which it is replaced."""

_START_S = 60.0  # for an interpreter on a busy machine with a slow disk
_OBITUARY_S = 2.0
_CLOSE_S = 5.0
_MOST_STARTS = 3
_LAST_WORDS = 1 << 14  # bytes


@dataclass(eq=False)
class Feeder:
    """A local feeder.

    Attributes:
        number: its place; a feeder that replaces another takes it over.
        identity: by which it is addressed; never used twice.
        pid: of the process.
        pidfd: readable when the process is gone.
        black_box: where faulthandler writes.
        nursery: the control socket of the one that it was forked from.
        is_ready: whether it has said hello.
        done: pieces that it has handed in.
    """

    number: int
    identity: bytes
    pid: int
    pidfd: int
    black_box: int
    nursery: socket.socket
    is_ready: bool = False
    done: int = 0
    born: float = field(default_factory=time.monotonic)

    def kill(self) -> None:
        """Ends it at once."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def write_stack(self) -> None:
        """Makes it write its stack into its black box, if it still can."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, nursery.STACK_SIGNAL)

    @property
    def is_stopped(self) -> bool:
        """Whether a signal has stopped it, so that it will not move until another one lets it."""
        return _is_stopped(self.pid)

    def last_words(self) -> str:
        """What faulthandler has written."""
        size = os.fstat(self.black_box).st_size
        return os.pread(self.black_box, _LAST_WORDS, max(0, size - _LAST_WORDS)).decode(errors="replace").strip()

    def close(self) -> None:
        """Closes what this process holds of it."""
        os.close(self.pidfd)
        os.close(self.black_box)


class Crew:
    """All local feeders of a feed.

    Args:
        start: starts a nursery; returns it and its control socket.

    Attributes:
        feeders: those that are born, by pidfd.
        control: the socket to the nursery; `hear` is to be called when it is readable.
    """

    def __init__(self, start: Callable[[], tuple[subprocess.Popen[bytes], socket.socket]]) -> None:
        self.feeders: dict[int, Feeder] = {}
        self.control: socket.socket | None = None
        self._start = start
        self._nursery: subprocess.Popen[bytes] | None = None
        self._statuses: dict[int, int] = {}  # wait status by pid
        self._wanted: dict[int, tuple[bytes, float]] = {}  # identity and time of the order, by number
        self._lost_in_a_row = 0
        self._stopped_looks = 0  # at the nursery, while it owes a feeder

    def hire(self, number: int) -> None:
        """Orders a feeder, which is there when `hear` has put it into `feeders`."""
        identity = secrets.token_bytes(12)
        self._wanted[number] = identity, time.monotonic()
        if self.control is None:
            self._nursery, self.control = self._start()
            self.control.settimeout(_START_S)
        try:
            self.control.send(wire.pack(["fork", number, identity]))
        except OSError:  # the nursery is gone, as `hear` will find
            return

    def hear(self) -> None:
        """Reads what the nursery has said; if it is gone, starts another one for the feeders that are missing.

        Raises:
            FeedError: nurseries end as soon as they are started.
        """
        while self.control is not None and select.select([self.control], [], [], 0)[0]:
            try:
                self._listen(self.control)
            except (OSError, EOFError):
                self._lose_nursery()

    def check(self) -> None:
        """Ends a nursery that owes a feeder and does not answer any more; `hear` then finds it gone."""
        if self._nursery is None or not self._wanted:
            return
        now = time.monotonic()
        self._stopped_looks = self._stopped_looks + 1 if _is_stopped(self._nursery.pid) else 0
        if self._stopped_looks >= STOPPED_LOOKS or any(now - since > _START_S for _, since in self._wanted.values()):
            self._stopped_looks = 0
            self._nursery.kill()

    def _listen(self, control: socket.socket) -> None:
        """Reads one message of the nursery.

        Raises:
            EOFError: it is gone.
            OSError: so it is.
        """
        message, fds, _, _ = socket.recv_fds(control, 4096, 2)
        if not message:
            raise EOFError
        word, *fields = wire.unpack(message)
        if word == "born":
            number, pid = fields
            identity, _ = self._wanted.pop(number)
            pidfd, black_box = fds
            feeder = Feeder(number, identity, pid, pidfd, black_box, control)
            self.feeders[feeder.pidfd] = feeder
            self._lost_in_a_row = 0
        else:
            pid, status = fields
            self._statuses[pid] = status

    def _lose_nursery(self) -> None:
        """The nursery has died, and its children with it."""
        assert self._nursery is not None
        assert self.control is not None
        self._nursery.kill()
        self._nursery.wait()
        self.control.close()
        self._nursery = self.control = None
        self._lost_in_a_row += 1
        if self._lost_in_a_row == _MOST_STARTS:
            raise FeedError(
                f"the process that starts feeders has ended {_MOST_STARTS} times as soon as it was started; what it "
                "said stands above. Check that a fresh interpreter can import distrain, and the limit of processes "
                "(ulimit -u)."
            )
        for number in list(self._wanted):
            self.hire(number)

    def bury(self, feeder: Feeder) -> str:
        """Takes note of a death; returns how it came."""
        del self.feeders[feeder.pidfd]
        deadline = time.monotonic() + _OBITUARY_S
        while feeder.nursery is self.control and feeder.pid not in self._statuses:  # another one knows nothing of it
            if not select.select([feeder.nursery], [], [], max(0.0, deadline - time.monotonic()))[0]:
                break
            self.hear()
        return _cause(self._statuses.pop(feeder.pid, None))

    def close(self) -> None:
        """Ends all feeders and the nursery; takes little more than half a second if they still work."""
        if self.control is not None and self._nursery is not None:
            self.control.close()
            try:
                self._nursery.wait(_CLOSE_S)
            except subprocess.TimeoutExpired:
                self._nursery.kill()
                self._nursery.wait()
        for feeder in self.feeders.values():
            feeder.kill()  # gone already, but for those that a stopped nursery could not end
            feeder.close()
        self.feeders.clear()
        self._nursery = self.control = None


def _is_stopped(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] in ("T", "t")


def _cause(status: int | None) -> str:
    """What a wait status says about the end of a process."""
    if status is None:
        return "SIGKILL"  # with the nursery
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
