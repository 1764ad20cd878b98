from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from distrain_launch.hosts import Host
from distrain_launch.mpiexec import Mpiexec
from distrain_launch.reach import absent
from distrain_launch.signals import ENDING

HOSTS = [Host("a", 1), Host("b", 2), Host("c", 1)]

# As an mpiexec of MPICH: the host is the fourth word. What it does is in a file of that name.
MPIEXEC = """#!/bin/sh
cd "$(dirname "$0")" && echo "$*" >> asked && . ./"$4"
"""


@pytest.fixture
def starter(tmp_path: Path) -> Mpiexec:
    path = tmp_path / "mpiexec"
    path.write_text(MPIEXEC)
    path.chmod(0o755)
    for host in HOSTS:
        (tmp_path / host.name).write_text("exit 0")
    return Mpiexec(str(path), "hydra")


def test_all_answer(starter: Mpiexec, tmp_path: Path) -> None:
    assert absent(HOSTS, starter) == (set(), None)
    assert sorted((tmp_path / "asked").read_text().splitlines()) == [f"-n 1 -hosts {x} -ppn 1 true" for x in "abc"]


def test_one_that_refuses_is_asked_again(starter: Mpiexec, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("exit 255")
    (tmp_path / "c").write_text("[ -e was-here ] && exit 0; touch was-here; exit 255")
    assert absent(HOSTS, starter, at_once=2) == ({"b"}, None)
    asked = (tmp_path / "asked").read_text()
    assert [asked.count(f" {name} ") for name in "abc"] == [1, 3, 2]


def test_one_that_says_nothing_is_not_waited_for(starter: Mpiexec, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("sleep 60 & sleep 60")
    start = time.monotonic()
    assert absent(HOSTS, starter, answer_s=0.5) == ({"b"}, None)
    assert time.monotonic() - start < 10


def test_a_signal_ends_the_waiting(starter: Mpiexec, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("sleep 60")
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    start = time.monotonic()
    before = {number: signal.getsignal(number) for number in ENDING}  # the job is over: from then on they are ignored
    try:
        assert absent(HOSTS, starter, answer_s=30)[1] == signal.SIGTERM
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        timer.join()
    assert time.monotonic() - start < 10
