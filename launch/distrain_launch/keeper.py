"""Starts one rank, stays beside it, and tells the launcher how it ends.

mpiexec runs this file in the place of the script, once a rank:

    python -I -S keeper.py SOCKET COMMAND…

It says who it is, is told what its rank gets (environment, cores, log file), starts the command and passes on what it
prints. It knows for certain how the rank ended, which mpiexec does not tell alike. Whoever of the family dies, the rest
goes: the rank dies with its keeper, the keeper ends its rank when the launcher is gone, and whatever the rank has
started and left behind is ended with it.

It is run by its path, without site packages, so that it starts in a few hundredths of a second: standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

# What keeper and launcher say to each other: kind, length, content; all but output is JSON.
HELLO, STARTED, OUT, ERR, NOTE, END = range(6)  # keeper to launcher
START, SIGNAL, KILL, BYE, ABANDON = range(10, 15)  # launcher to keeper
_HEADER = struct.Struct("!BI")
CHUNK = 2**16
_BACKLOG = 2**20  # bytes the launcher has not taken; from there on the rank has to wait

ABROAD = "tcp:"  # begins the address of a launcher that may be on another host
FORWARDED = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2")
    if hasattr(signal, name)
)
LAUNCHER_VARIABLES = ("OMPI_COMM_", "PMI_", "PMIX_RANK", "MPI_LOCAL", "SLURM_")

# The black box of a rank, see distrain/black_box.py: iteration, state, length of the report, failures before, seconds
# trained before and in all, report, entries.
_BOX = struct.Struct("=qqqqdd")
BOX_BYTES = 2**16
_TRAINING = 5  # state of a rank that takes SIGTERM as a wish to save its training
ENTRIES_BYTES = 32 * 96  # read by collectives.py
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def pack(kind: int, content: bytes | dict[str, Any]) -> bytes:
    """One message."""
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return _HEADER.pack(kind, len(data)) + data


class Inbox:
    """Puts messages together again from what a socket gives."""

    def __init__(self) -> None:
        self.data = bytearray()

    def take(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """The messages that are complete with this piece."""
        self.data += data
        while len(self.data) >= _HEADER.size:
            kind, length = _HEADER.unpack_from(self.data)
            end = _HEADER.size + length
            if len(self.data) < end:
                return
            content = bytes(self.data[_HEADER.size : end])
            del self.data[:end]
            yield kind, content


class Keeper:
    """One rank and the line to the launcher."""

    def __init__(self, path: str, command: list[str]) -> None:
        self.path = path
        self.command = command
        self.socket = _connect(path)
        self.inbox = Inbox()
        self.outgoing = bytearray()
        self.selector = selectors.DefaultSelector()
        self.child: subprocess.Popen[bytes] | None = None
        self.code: int | None = None
        self.pipes: dict[int, int] = {}  # what the rank prints: end of the pipe, kind of message
        self.log: int | None = None
        self.is_over = False
        self.alarm, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        for number in (*FORWARDED, signal.SIGCHLD):
            signal.signal(number, _nothing)
        self.box = _anonymous_file()
        self.memory = _beside("oom").Watch()

    def run(self) -> int:
        """Keeps the rank until it has ended and the launcher says good-bye; returns the rank's exit code."""
        hello = {"host": socket.gethostname(), "pid": os.getpid(), "environ": _told_by_the_launcher()}
        if self.path.startswith(ABROAD):
            hello["machine"] = _beside("survey").survey(self.command)
        self._send(HELLO, hello)
        self.socket.setblocking(False)
        self.selector.register(self.socket, selectors.EVENT_READ, self._on_socket)
        self.selector.register(self.alarm, selectors.EVENT_READ, self._on_alarm)
        while not self.is_over:
            self._set_interests()
            for key, events in self.selector.select():
                key.data(events)
        code = 1 if self.code is None else self.code
        return code if code >= 0 else 128 - code

    def _set_interests(self) -> None:
        """Writes when there is something to write; reads from the rank only if the launcher keeps up."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.outgoing else 0)
        if self.selector.get_key(self.socket).events != events:
            self.selector.modify(self.socket, events, self._on_socket)
        for pipe in self.pipes:
            is_read = pipe in self.selector.get_map()
            if is_read and len(self.outgoing) >= _BACKLOG:
                self.selector.unregister(pipe)
            elif not is_read and len(self.outgoing) < _BACKLOG:
                self.selector.register(pipe, selectors.EVENT_READ, lambda events, pipe=pipe: self._on_output(pipe))

    def _send(self, kind: int, content: bytes | dict[str, Any]) -> None:
        self.outgoing += pack(kind, content)

    def _on_socket(self, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                del self.outgoing[: self.socket.send(self.outgoing)]
            if events & selectors.EVENT_READ:
                data = self.socket.recv(CHUNK)
                if not data:
                    raise ConnectionError
                for kind, content in self.inbox.take(data):
                    self._obey(kind, content)
        except BlockingIOError:
            return
        except ConnectionError:  # the launcher is dead
            self.code = 1
            self._end_all()
            with contextlib.suppress(OSError):  # removed by it or by another keeper
                os.unlink(self.path)
                os.rmdir(os.path.dirname(self.path))
            self.is_over = True

    def _obey(self, kind: int, content: bytes) -> None:
        if kind == START:
            self._start(json.loads(content))
        elif kind == SIGNAL and self.child is not None and self.code is None:
            os.kill(self.child.pid, int(content))
        elif kind == ABANDON and self.child is not None and self.code is None:
            _, state, *_ = _BOX.unpack(os.pread(self.box, _BOX.size, 0))
            os.kill(self.child.pid, signal.SIGKILL if state == _TRAINING else signal.SIGTERM)
        elif kind == KILL:
            self._end_all()
        elif kind == BYE:
            self.is_over = True

    def _start(self, place: Mapping[str, Any]) -> None:
        """Starts the rank."""
        if place["log"] is not None:
            try:
                self.log = os.open(place["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
            except OSError as error:
                self._send(NOTE, f"it has no log file: {error}\n".encode())
        out, out_end = os.pipe()
        err, err_end = (out, out_end) if place["one_stream"] else os.pipe()
        self.pipes = {err: ERR, out: OUT}
        found = os.fstat(self.box)
        variables = {"DISTRAIN_BLACK_BOX": f"{self.box}:{found.st_dev}:{found.st_ino}", **place["variables"]}
        os.set_inheritable(self.box, True)
        try:
            self.child = subprocess.Popen(
                self.command,
                env={**os.environ, **variables},
                stdin=subprocess.DEVNULL,
                stdout=out_end,
                stderr=err_end,
                close_fds=False,  # MPI's own line to mpiexec is among them
                process_group=0,  # what mpiexec sends to the group is for the keeper, which passes it on
                preexec_fn=_last_acts(place["cores"]),
            )
        except OSError as error:
            self._send(NOTE, f"{self.command[0]} cannot be run: {error}\n".encode())
            self.code = 127
            self._say_end()
        else:
            self._send(STARTED, {"pid": self.child.pid})
        for end in {out_end, err_end}:
            os.close(end)

    def _on_output(self, pipe: int) -> None:
        try:
            data = os.read(pipe, CHUNK)
        except BlockingIOError:  # read empty when the rank ended
            return
        if data:
            self._pass_on(pipe, data)
        else:
            self.selector.unregister(pipe)
            os.close(pipe)
            del self.pipes[pipe]

    def _pass_on(self, pipe: int, data: bytes) -> None:
        self._send(self.pipes[pipe], data)
        try:
            while self.log is not None and data:
                data = data[os.write(self.log, data) :]
        except OSError as error:  # a full disk is no reason to end the training
            self.log = None
            self._send(NOTE, f"its log file is incomplete: {error}\n".encode())

    def _on_alarm(self, events: int) -> None:
        for number in os.read(self.alarm, CHUNK):
            if number == signal.SIGCHLD:
                self._reap()
            elif self.child is not None and self.code is None:
                os.kill(self.child.pid, number)

    def _reap(self) -> None:
        """Buries the dead: the rank, and what it left behind."""
        if self.child is None or self.code is not None:
            return
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                if found[0] == self.child.pid:
                    self.child.returncode = self.code = os.waitstatus_to_exitcode(found[1])
                    self._end_all()
                    self._say_end()
                    return

    def _say_end(self) -> None:
        ended = time.time()
        for pipe in list(self.pipes):  # all that wrote to it are dead
            os.set_blocking(pipe, False)
            with contextlib.suppress(BlockingIOError):
                while data := os.read(pipe, CHUNK):
                    self._pass_on(pipe, data)
        iteration, state, length, failures, before, trained = _BOX.unpack(os.pread(self.box, _BOX.size, 0))
        room = BOX_BYTES - _BOX.size - ENTRIES_BYTES
        report = os.pread(self.box, min(length, room), _BOX.size).decode(errors="replace")
        entries = os.pread(self.box, ENTRIES_BYTES, BOX_BYTES - ENTRIES_BYTES).hex()
        if self.log is not None and report:
            with contextlib.suppress(OSError):  # the disk is full
                os.write(self.log, f"\n{report}".encode())
        end = {"code": self.code, "time": ended, "iteration": iteration, "state": state, "report": report}
        verdict = self.memory.verdict() if self.code == -signal.SIGKILL else ""
        history = {"failures": failures, "before": before, "trained": trained}
        self._send(END, {**end, **history, "entries": entries, "verdict": verdict})

    def _end_all(self) -> None:
        """Kills the rank and all that it has started; those that it has left come to this process."""
        if self.code is None:  # the rank is reaped where its end is told, and the rest with it
            for pid in descendants(os.getpid()):
                kill(pid)
        else:
            end_family(os.getpid())


def _connect(path: str) -> Any:
    """The line to the launcher."""
    if path.startswith(ABROAD):
        return _beside("link").connect(path)
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)
    return line


def _beside(name: str) -> Any:
    """A file of this folder, which needs no more than the standard library either."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def end_family(ancestor: int, spared: Container[int] = ()) -> None:
    """Kills what this process has started, and what that has started, and reaps it.

    Args:
        ancestor: this process.
        spared: children to leave alone.
    """
    for _ in range(100):  # a family that grows faster than it is killed is left to its fate
        family = [pid for child in children(ancestor) if child not in spared for pid in (child, *descendants(child))]
        if not family:
            return
        for pid in family:
            kill(pid)
        for child in family:
            with contextlib.suppress(ChildProcessError):  # not ours, but a child's
                os.waitpid(child, os.WNOHANG)
        time.sleep(0.01)


def kill(pid: int) -> None:
    """Kills a process if it is there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """Processes that a process has started, dead ones that nobody has reaped included."""
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has ended
            found += [int(child) for child in file.read_text().split()]
    return found


def descendants(pid: int) -> Iterator[int]:
    """Children, their children, and so on."""
    for child in children(pid):
        yield child
        yield from descendants(child)


def _anonymous_file() -> int:
    if sys.platform == "linux":
        box = os.memfd_create("black box", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            box = os.dup(file.fileno())
    os.ftruncate(box, BOX_BYTES)
    os.pwrite(box, _BOX.pack(-1, 0, 0, 0, 0.0, 0.0), 0)
    return box


def _last_acts(cores: list[int]) -> Any:
    """What the child does before it becomes the rank."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    keeper = os.getpid()

    def act() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:  # it died in between
            os.kill(os.getpid(), signal.SIGKILL)
        if cores:
            os.sched_setaffinity(0, cores)

    return act


def _told_by_the_launcher() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(LAUNCHER_VARIABLES)}


def _nothing(number: int, frame: FrameType | None) -> None:
    """A signal that is handled where the wake-up pipe is read."""


if __name__ == "__main__":
    sys.exit(Keeper(sys.argv[1], sys.argv[2:]).run())
