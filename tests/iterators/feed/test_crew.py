"""A nursery and its feeders as real processes: they are born, die of what they die of, and are replaced."""

import os
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from distrain import wire
from distrain.errors import FeedError
from distrain.iterators.feed import nursery
from distrain.iterators.feed.arena import Arena
from distrain.iterators.feed.crew import Crew
from distrain.iterators.feed.server import Cargo
from distrain.iterators.feed.shipment import ship

LIMIT_S = 60


@contextmanager
def crew_of(start=None):
    """A crew with all that its feeders need."""
    context = wire.new_context()
    hub = wire.hub(context)
    address = wire.listen_locally(hub)
    arena = Arena()
    cargo = ship(Cargo(np.arange(10), None, 0, "raise"), "dataset")
    crew = Crew(start or (lambda: nursery.start(address, secrets.token_bytes(16), arena.fd, cargo)))
    try:
        yield crew
    finally:
        crew.close()
        arena.close()
        os.close(cargo)
        context.destroy(linger=0)
        assert not Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text()


def until(true, crew):
    """Hears and checks, as a rank does while it waits."""
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end
        if crew.control is not None:
            select.select([crew.control], [], [], 0.05)
        crew.hear()
        crew.check()


def hired(crew, count=2):
    for number in range(count):
        crew.hire(number)
    until(lambda: len(crew.feeders) == count, crew)
    return sorted(crew.feeders.values(), key=lambda feeder: feeder.number)


def catches(pid, number):
    """Whether a process has a handler for a signal; feeders have one for crashes from early on."""
    (mask,) = (line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "SigCgt" in line)
    return bool(int(mask, 16) >> (number - 1) & 1)


def died(feeder):
    return bool(select.select([feeder.pidfd], [], [], LIMIT_S)[0])


def test_feeders_are_born_and_end_with_the_crew():
    with crew_of() as crew:
        first, second = hired(crew)
        assert (first.number, second.number) == (0, 1)
        assert first.identity != second.identity
        assert Path(f"/proc/{first.pid}/stat").read_text().rpartition(")")[2].split()[1] == str(crew._nursery.pid)
        pids = [first.pid, second.pid]
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_death_is_told_with_its_cause(number):
    with crew_of() as crew:
        first, second = hired(crew)
        until(lambda: catches(first.pid, signal.SIGSEGV), crew)
        os.kill(first.pid, number)
        assert died(first)
        assert crew.bury(first) == signal.Signals(number).name
        assert list(crew.feeders.values()) == [second]
        if number == signal.SIGSEGV:
            assert "Fatal Python error: Segmentation fault" in first.last_words()
        first.close()
        crew.hire(0)
        until(lambda: len(crew.feeders) == 2, crew)


def test_signals_that_tell_a_job_to_stop_are_for_the_rank():
    with crew_of() as crew:
        (feeder,) = hired(crew, 1)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(feeder.pid, number)
            os.kill(crew._nursery.pid, number)
        time.sleep(0.1)
        assert not select.select([feeder.pidfd], [], [], 0)[0]
        assert crew._nursery.poll() is None


def test_feeders_die_with_their_nursery_and_another_one_takes_over():
    with crew_of() as crew:
        first, second = hired(crew)
        crew._nursery.kill()
        for feeder in (first, second):
            assert died(feeder)
            assert crew.bury(feeder) == "SIGKILL"
            feeder.close()
            crew.hire(feeder.number)
        until(lambda: len(crew.feeders) == 2, crew)
        assert {feeder.number for feeder in crew.feeders.values()} == {0, 1}


def test_a_stopped_nursery_that_owes_a_feeder_is_replaced():
    with crew_of() as crew:
        hired(crew, 1)
        os.kill(crew._nursery.pid, signal.SIGSTOP)
        began = time.monotonic()
        crew.hire(1)
        until(lambda: any(feeder.number == 1 for feeder in crew.feeders.values()), crew)
        print(f"replaced after {time.monotonic() - began:.1f} s")
        assert time.monotonic() - began < LIMIT_S / 2


def test_a_stopped_nursery_that_owes_nothing_is_left_alone():
    with crew_of() as crew:
        hired(crew, 1)
        nursery_before = crew._nursery
        os.kill(nursery_before.pid, signal.SIGSTOP)
        for _ in range(30):
            crew.hear()
            crew.check()
        assert crew._nursery is nursery_before
        os.kill(nursery_before.pid, signal.SIGCONT)


def test_an_interpreter_that_cannot_start_is_an_error():
    starts = []

    def start():
        starts.append(1)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            return subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"], pass_fds=[theirs.fileno()]), ours

    with crew_of(start) as crew:
        crew.hire(0)
        with pytest.raises(FeedError, match="has ended 3 times as soon as it was started"):
            until(lambda: False, crew)
    assert len(starts) == 3
