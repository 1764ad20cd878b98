"""The process from which feeders are forked: small, of one thread, and without MPI, CUDA or sockets.

A rank cannot be forked safely once MPI, CUDA or threads are at work, and starting an interpreter takes a third of a
second. So one fresh interpreter is started for a rank, and feeders are forked from that in a few milliseconds: at the
start, and whenever one has died. It does nothing else, and it ends with its rank, however that ends:

    rank ── control socket ──► nursery      ["fork", number, identity]
         ◄────────────────────              ["born", number, pid] with its pidfd and black box, ["gone", pid, status]

Feeders get SIGKILL from the kernel when the nursery dies. All ignore the signals with which a job is told to stop; the
rank decides when they end.
"""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from distrain import mortal, wire
from distrain.env import THREAD_VARIABLES, without_launcher
from distrain.iterators.feed import feeder

STACK_SIGNAL = signal.SIGRTMIN + 3
"""Makes a feeder write its stack into its black box."""

_BOOT = (
    "import json, sys; boot = json.loads(sys.argv[1]); sys.path[:] = boot['path']; sys.argv[:] = boot['argv']\n"
    "from distrain.iterators.feed import nursery; nursery.main(boot)"
)
_IGNORED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
_ONE_THREAD = (*THREAD_VARIABLES, "NUMEXPR_NUM_THREADS")
_MAX_MESSAGE = 1 << 12
_GRACE_S = 0.5


def start(address: str, token: bytes, arena_fd: int, cargo_fd: int) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts a nursery for this process; returns it and the control socket."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    boot = {
        "path": sys.path,
        "argv": sys.argv,
        "rank": os.getpid(),
        "control": theirs.fileno(),
        "arena": arena_fd,
        "cargo": cargo_fd,
        "address": address,
        "token": token.hex(),
    }
    environment = {**without_launcher(os.environ), **dict.fromkeys(_ONE_THREAD, "1")}
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _BOOT, json.dumps(boot)],
            pass_fds=(theirs.fileno(), arena_fd, cargo_fd),
            stdin=subprocess.DEVNULL,
            env=environment,
        )
    return process, ours


def main(boot: dict[str, Any]) -> None:
    """The nursery's life. Ends the process."""
    for name in _IGNORED:
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    try:
        rank_fd = os.pidfd_open(boot["rank"])
        if os.getppid() == boot["rank"]:
            _serve(boot, socket.socket(fileno=boot["control"]), rank_fd)
    except ProcessLookupError:  # the rank is gone already
        pass
    os._exit(0)


def _serve(boot: dict[str, Any], control: socket.socket, rank_fd: int) -> None:
    children: dict[int, int] = {}  # pidfd → pid
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(rank_fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in children:
                pid = children.pop(fd)
                poll.unregister(fd)
                os.close(fd)
                _, status = os.waitpid(pid, 0)
                _tell(control, ["gone", pid, status])
            elif fd == rank_fd:
                return  # the kernel ends the children
            else:
                message = _heard(control)
                if not message:
                    _bury(children)
                    return
                _, number, identity = wire.unpack(message)
                pidfd = _fork(boot, control, rank_fd, children, number, identity)
                poll.register(pidfd, select.POLLIN)


def _fork(
    boot: dict[str, Any], control: socket.socket, rank_fd: int, children: dict[int, int], number: int, identity: bytes
) -> int:
    black_box = os.memfd_create("distrain-black-box", os.MFD_CLOEXEC)
    nursery = os.getpid()
    announced, announce = os.pipe()
    pid = os.fork()
    if pid:
        pidfd = os.pidfd_open(pid)
        children[pidfd] = pid
        _tell(control, ["born", number, pid], pidfd, black_box)
        for fd in (black_box, announced, announce):
            os.close(fd)
        return pidfd
    code = 1
    try:
        if not mortal.die_with(nursery):
            os._exit(0)
        control.close()
        for other in (announce, *children):
            os.close(other)
        os.read(announced, 1)  # ends when the news is out: the rank listens to no feeder that it has not heard of
        os.close(announced)
        faulthandler.enable(black_box)
        faulthandler.register(STACK_SIGNAL, black_box)
        token = bytes.fromhex(boot["token"])
        feeder.run(number, identity, boot["address"], token, boot["arena"], boot["cargo"], rank_fd)
        code = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _heard(control: socket.socket) -> bytes:
    """What the rank says; nothing when it has closed its end."""
    try:
        return control.recv(_MAX_MESSAGE)
    except ConnectionResetError:
        return b""


def _tell(control: socket.socket, message: list[Any], *fds: int) -> None:
    try:
        socket.send_fds(control, [wire.pack(message)], fds)
    except OSError:  # the rank is closing, or gone; the next look at the socket says so
        return


def _bury(children: dict[int, int]) -> None:
    """Gives feeders that were told to stop a moment, and ends those that still work."""
    deadline = time.monotonic() + _GRACE_S
    poll = select.poll()
    for fd in children:
        poll.register(fd, select.POLLIN)
    while children and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(1000 * left):
            poll.unregister(fd)
            os.waitpid(children.pop(fd), 0)
    for fd, pid in children.items():
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        os.waitpid(pid, 0)
