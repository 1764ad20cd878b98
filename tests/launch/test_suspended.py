"""Jobs that are stopped as a whole for longer than ranks wait for each other, and go on afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mpi
LIMIT_S = 60.0
PAUSE_S = 8.0  # a rank that waits for rank 0 gives up after five
ENV = {"CUDA_VISIBLE_DEVICES": "", "DISTRAIN_COLLECTIVE_TIMEOUT": "4"}

# One rank lets the other wait, but never for as long as the limit.
SCRIPT = """
import pathlib, sys, time
import numpy as np
from distrain import comm

world, slow = comm.world(), int(sys.argv[2])
for step in range(3):
    if world.rank == slow:
        pathlib.Path(sys.argv[1], f"step-{step}").touch()
        time.sleep(2.5)
    world.allreduce(np.ones(3))
print("end", world.rank, flush=True)
"""


class Running:
    """A job, one rank of which waits for the other."""

    def __init__(self, mpi: Any, child: subprocess.Popen[str], mark: str) -> None:
        self.mpi, self.child, self.mark = mpi, child, mark

    def everybody(self, number: int) -> None:
        for pid in self.mpi.marked(self.mark):
            os.kill(pid, number)

    def check(self) -> str:
        """That it goes on to its end; returns standard error."""
        stdout, stderr = self.child.communicate(timeout=LIMIT_S)
        assert self.mpi.wait_until_gone(self.mark, 5.0) == []
        assert self.child.returncode == 0, stderr
        assert stdout.count("end") == 2
        return stderr


@pytest.fixture
def start(mpi: Any, tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def running(way: str, slow: int, mpi_python: str = sys.executable) -> Iterator[Running]:
        mark, script = uuid.uuid4().hex, tmp_path / "script.py"
        script.write_text(SCRIPT)
        program = [mpi_python, str(script), str(tmp_path), str(slow)]
        command, env = [mpi_python, "-m", "distrain_launch", "run", "-n", "2", *program[1:]], dict(ENV)
        if way == "mpiexec":
            made = mpi.mpiexec.command(mpi.mpiexec.find(python=mpi_python), 2, program, mpi.Machine.here())
            command, env = made.arguments, {**env, **made.variables}
        child = subprocess.Popen(
            command,
            env=mpi.environment(mark, env),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + LIMIT_S
            while not (tmp_path / "step-1").exists():
                assert child.poll() is None, child.communicate()[1]
                assert time.monotonic() < end, "the ranks did not start"
                time.sleep(0.02)
            time.sleep(1.6)  # the other one has said that it waits
            yield Running(mpi, child, mark)
        finally:
            mpi.kill_marked(mark)
            child.communicate(timeout=10)

    return running


@pytest.mark.parametrize(("way", "slow"), [("distrain run", 0), ("mpiexec", 1)])
def test_a_pause_of_all_processes_is_no_hang(start: Callable[..., Any], mpi_python: str, way: str, slow: int) -> None:
    with start(way, slow, mpi_python) as job:
        job.everybody(signal.SIGSTOP)
        time.sleep(PAUSE_S)
        job.everybody(signal.SIGCONT)
        assert "wait" not in job.check()


def test_ctrl_z_stops_the_ranks_too(start: Callable[..., Any]) -> None:
    with start("distrain run", 0) as job:
        job.child.send_signal(signal.SIGTSTP)
        end = time.monotonic() + LIMIT_S
        while stopped(job) < 3:  # the launcher and both ranks
            assert time.monotonic() < end, "they were not stopped"
            time.sleep(0.05)
        time.sleep(PAUSE_S)
        assert stopped(job) == 3
        job.child.send_signal(signal.SIGCONT)
        assert "wait" not in job.check()


def stopped(job: Running) -> int:
    states = [Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] for pid in job.mpi.marked(job.mark)]
    return states.count("T")


def test_a_limit_does_not_run_while_the_launcher_is_stopped(mpi: Any, tmp_path: Path) -> None:
    """Ranks that take three seconds to end after Ctrl-C, which they have, though four have gone by outside."""
    script, mark = tmp_path / "script.py", uuid.uuid4().hex
    script.write_text(
        "import pathlib, sys, time\npathlib.Path(sys.argv[1]).touch()\ntry:\n    time.sleep(60)\n"
        "except KeyboardInterrupt:\n    print('tidies up', flush=True)\n    time.sleep(1.5)\n    print('is ready')\n"
    )
    options = ["-n", "1", "--quiet", "--log-dir", str(tmp_path / "logs"), "--shutdown-timeout", "3.5"]
    command = [sys.executable, "-m", "distrain_launch", "run", *options, str(script), str(tmp_path / "ready")]
    child = subprocess.Popen(command, env=mpi.environment(mark, ENV), stderr=subprocess.PIPE, text=True)
    try:
        wait_for((tmp_path / "ready").exists)
        child.send_signal(signal.SIGINT)
        wait_for(lambda: "tidies up" in (tmp_path / "logs" / "rank-0.log").read_text())
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in mpi.marked(mark):
                os.kill(pid, number)
            time.sleep(5.0 * (number == signal.SIGSTOP))
        assert "did not end" not in child.communicate(timeout=LIMIT_S)[1]
        assert "is ready" in (tmp_path / "logs" / "rank-0.log").read_text()
    finally:
        mpi.kill_marked(mark)
        child.communicate(timeout=10)


FEEDING = """
import pathlib, sys, time
from distrain.iterators import MultiprocessIterator

class Slow:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        pathlib.Path(sys.argv[1]).touch()
        time.sleep(1.0)
        return index

iterator = MultiprocessIterator(Slow(), 4, repeat=False, shuffle=False, n_processes=1, sample_timeout=3)
assert sorted(next(iterator)) == [0, 1, 2, 3]
print(iterator.stats()["deaths"], flush=True)
iterator.finalize()
"""


def test_a_feeder_that_was_stopped_with_its_rank_does_not_hang(mpi: Any, tmp_path: Path) -> None:
    script, mark = tmp_path / "script.py", uuid.uuid4().hex
    script.write_text(FEEDING)
    command = [sys.executable, str(script), str(tmp_path / "reads")]
    child = subprocess.Popen(command, env=mpi.environment(mark, ENV), stdout=subprocess.PIPE, text=True)
    try:
        wait_for((tmp_path / "reads").exists)
        time.sleep(0.5)
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for pid in mpi.marked(mark):
                os.kill(pid, number)
            time.sleep(6.0 * (number == signal.SIGSTOP))
        stdout, _ = child.communicate(timeout=LIMIT_S)
        assert (child.returncode, stdout) == (0, "[]\n")
    finally:
        mpi.kill_marked(mark)
        child.communicate(timeout=10)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
