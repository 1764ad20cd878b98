"""Which hosts answer: a command that does nothing is started on each of them, in the way that ranks are started."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence

from distrain_launch import keeper, mpiexec
from distrain_launch.hosts import Host
from distrain_launch.mortal import die_with
from distrain_launch.mpiexec import Machine, Mpiexec
from distrain_launch.signals import Signals

ANSWER_S = 20.0  # a login may be slow
_AT_ONCE = 32  # hosts that are asked
_TRIES = 3  # MPICH's mpiexec fails without a word, once in a few hundred times, when several start together


def absent(
    hosts: Sequence[Host], starter: Mpiexec, answer_s: float = ANSWER_S, at_once: int = _AT_ONCE
) -> tuple[set[str], int | None]:
    """The hosts on which nothing can be started.

    Args:
        hosts: all that are asked.
        starter: with what.
        answer_s: seconds that a host has to answer.
        at_once: how many are asked at the same time.

    Returns:
        Their names, and the signal that has ended the waiting before all had been asked; None if none came.
    """
    missing: set[str] = set()
    for start in range(0, len(hosts), at_once):
        asked = hosts[start : start + at_once]
        for _ in range(_TRIES):
            refused, silent, told = _ask(asked, starter, answer_s)
            missing |= silent
            asked = [host for host in asked if host.name in refused]
            if told is not None:
                return missing | refused, told
        missing |= refused
    return missing, None


def _ask(hosts: Sequence[Host], starter: Mpiexec, answer_s: float) -> tuple[set[str], set[str], int | None]:
    """Those that refuse, those that say nothing in time, and the signal that ended the waiting."""
    spared = set(keeper.children(os.getpid()))
    with Signals(more=[signal.SIGCHLD]) as signals:
        asked = {host.name: _start(host, starter) for host in hosts}
        try:
            told = _wait(list(asked.values()), signals, answer_s)
            signals.ends = told is not None
            codes = {name: child.poll() for name, child in asked.items()}
        finally:
            keeper.end_family(os.getpid(), spared=spared)
            for child in asked.values():
                child.poll()
    return {name for name, code in codes.items() if code}, {name for name in codes if codes[name] is None}, told


def _start(host: Host, starter: Mpiexec) -> subprocess.Popen[bytes]:
    made = mpiexec.command(starter, 1, ["true"], Machine.here(), [Host(host.name, 1)])
    return subprocess.Popen(
        made.arguments,
        env={**os.environ, **made.variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for the launcher
        preexec_fn=die_with(os.getpid()),
    )


def _wait(children: Sequence[subprocess.Popen[bytes]], signals: Signals, seconds: float) -> int | None:
    """Waits until all have ended or the time has passed; returns the signal that comes meanwhile."""
    end = time.monotonic() + seconds
    while any(child.poll() is None for child in children):
        left = end - time.monotonic()
        if left <= 0:
            return None
        number = signals.wait(left)
        if number not in (None, signal.SIGCHLD):
            return number
    return None
