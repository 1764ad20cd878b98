"""Runs a job as a child of the launcher: signals are passed on, and nothing is left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from types import FrameType

from distrain.errors import LaunchError
from distrain_launch.mpiexec import Command

_GRACE_S = 10.0  # from the signal to the end of mpiexec, before it is killed
_PR_SET_PDEATHSIG = 1


def replace(command: Command) -> int:
    """Becomes the command: its signals and exit code are then the launcher's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(command.arguments[0], command.arguments, {**os.environ, **command.variables})
    except OSError as error:
        raise LaunchError(f"{command.arguments[0]} cannot be run: {error}.") from error


def supervise(command: Command) -> int:
    """Starts the command, waits for its end and returns its exit code, 128 + n where signal n ended it.

    SIGINT and SIGTERM are passed on; a command that does not end then within ten seconds is killed.
    """
    try:
        child = subprocess.Popen(
            command.arguments,
            env={**os.environ, **command.variables},
            stdin=subprocess.DEVNULL,  # a group in the background would be stopped when it reads the terminal
            process_group=0,  # so that Ctrl-C reaches mpiexec once, through us
            preexec_fn=_die_with(os.getpid()),
        )
    except OSError as error:
        raise LaunchError(f"{command.arguments[0]} cannot be run: {error}.") from error
    received: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if child.poll() is None:
            child.send_signal(number)

    previous = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        while child.poll() is None and not received:
            _wait(child, 1.0)
        if received:
            _wait(child, _GRACE_S)
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
        for number, handler in previous.items():
            signal.signal(number, handler)
    if received:
        return 128 + received[0]
    return code if code >= 0 else 128 - code


def _wait(child: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        pass


def _die_with(parent: int) -> Callable[[], None] | None:
    """A last act before exec that has the child terminated when the launcher dies, by SIGKILL too."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl

    def bind() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os.kill(os.getpid(), signal.SIGTERM)

    return bind
