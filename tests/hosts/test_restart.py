"""Jobs on several hosts that are started again, when a rank is killed or a host has vanished."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.netns, pytest.mark.mpi]
SUITE = str(Path(__file__).with_name("vanishing_suite.py"))
RUN = ["-m", "distrain_launch", "run", "--reproducible", "--seed", "3", "--restart-delay", "1"]
LIMIT_S = 90.0


class Job:
    """A job that runs on host a."""

    def __init__(self, child: subprocess.Popen[str], out: Path) -> None:
        self._child, self._out = child, out

    def ranks(self, attempt: int, count: int) -> list[tuple[int, int, str]]:
        """Process, keeper and host of each rank, as soon as all of them wait."""
        end = time.monotonic() + LIMIT_S
        while len(found := sorted(self._out.glob(f"ready-{attempt}-[0-9]"))) < count:
            assert self._child.poll() is None, self._child.communicate()[1]
            assert time.monotonic() < end, "the ranks are not ready in time"
            time.sleep(0.05)
        words = [path.read_text().split() for path in found]
        return [(int(pid), int(keeper), host) for pid, keeper, host in words]

    def begun(self) -> list[str]:
        """How many ranks each attempt has, and where it begins."""
        return (self._out / "begun").read_text().split()

    def end(self) -> tuple[int, str]:
        """Exit code and standard error."""
        stderr = self._child.communicate(timeout=LIMIT_S)[1]
        return self._child.returncode, stderr


@contextmanager
def job(hosts: Any, mpi: Any, python: str, out: Path, waits: int, *options: str) -> Iterator[Job]:
    out.mkdir()
    mark = uuid.uuid4().hex
    child = subprocess.Popen(
        hosts.on("a", python, *RUN, *options, SUITE, str(out), str(waits)),
        env=mpi.environment(mark, hosts.variables()),
        cwd=out,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield Job(child, out)
        assert mpi.wait_until_gone(mark, 20.0) == []
    finally:
        mpi.kill_marked(mark)
        child.communicate(timeout=30)


def test_a_host_that_vanishes_and_returns(hosts: Any, mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    """The job goes on without it, and with it again from the next restart on; the weights are those of a quiet run."""
    with job(hosts, mpi, mpi_python, tmp_path / "quiet", 0, "--hosts", "a:1") as quiet:
        assert quiet.end()[0] == 0
    out, options = tmp_path / "out", ["--hosts", "a:1,b:1", "--max-restarts", "3", "--min-n", "1"]
    with job(hosts, mpi, mpi_python, out, 2, *options) as running:
        try:
            (_, keeper, host) = running.ranks(0, 2)[1]
            assert host == "b"
            os.kill(keeper, signal.SIGKILL)
            hosts.cut("b")
            ((pid, _, host),) = running.ranks(1, 1)
            assert host == "a"
        finally:
            hosts.mend("b")
        os.kill(pid, signal.SIGKILL)
        code, stderr = running.end()
        assert code == 0, stderr
        assert running.begun() == ["2:0", "1:3", "2:6"]
    assert "distrain: 1 rank on a, started by " in stderr
    assert "; 2 would be with b, which gives no answer\n" in stderr
    assert (out / "weights").read_text() == (tmp_path / "quiet" / "weights").read_text()


@pytest.mark.slow
def test_too_few_hosts_are_left(hosts: Any, mpi: Any, tmp_path: Path) -> None:
    options = ["--hosts", "a:1,b:1,c:1", "--max-restarts", "2", "--min-n", "3"]
    with job(hosts, mpi, sys.executable, tmp_path / "out", 1, *options) as running:
        try:
            os.kill(running.ranks(0, 3)[1][1], signal.SIGKILL)
            hosts.cut("b")
            code, stderr = running.end()
        finally:
            hosts.mend("b")
    assert code == 2
    words = "distrain: b: no answer. The other hosts (a:1, c:1) have room for 2 ranks, but the job has 3. Bring"
    assert stderr.count(words) == 2
    assert stderr.endswith("distrain: not started again: that was failure 3, and --max-restarts is 2.\n")


@pytest.mark.slow
def test_a_spare_host_takes_the_place(hosts: Any, mpi: Any, tmp_path: Path) -> None:
    options = ["--hosts", "a:1,b:1,c:1", "-n", "2", "--max-restarts", "1"]
    with job(hosts, mpi, sys.executable, tmp_path / "out", 1, *options) as running:
        try:
            os.kill(running.ranks(0, 2)[1][1], signal.SIGKILL)
            hosts.cut("b")
            code, stderr = running.end()
        finally:
            hosts.mend("b")
        assert code == 0, stderr
        assert running.begun() == ["2:0", "2:3"]
    assert "distrain: 2 ranks on a, c, started by " in stderr
