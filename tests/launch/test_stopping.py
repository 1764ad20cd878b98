"""Jobs that are told by a signal to make room: the training saves itself, the job ends with code 75."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mpi
SUITE = str(Path(__file__).parents[1] / "training" / "stopping_suite.py")
ENDLESS = ["100000000", "none", "SIGTERM", "0"]


class Running:
    """A job whose training has begun."""

    def __init__(self, mpi: Any, child: subprocess.Popen[str], mark: str) -> None:
        self.mpi, self.child, self.mark = mpi, child, mark

    def end(self) -> tuple[int, str]:
        """Exit code and standard error; everything is gone then."""
        _, stderr = self.child.communicate(timeout=40)
        assert self.mpi.wait_until_gone(self.mark, 5.0) == []
        return self.child.returncode, stderr


@pytest.fixture
def start(mpi: Any, mpi_python: str, tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def running(*words: str, options: tuple[str, ...] = ()) -> Iterator[Running]:
        mark = uuid.uuid4().hex
        run = [mpi_python, "-m", "distrain_launch", "run", "-n", "2", *options]
        child = subprocess.Popen(
            [*run, SUITE, str(tmp_path / "out"), *ENDLESS, *words],
            env=mpi.environment(mark, {"CUDA_VISIBLE_DEVICES": ""}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            end = time.monotonic() + 40
            while not (tmp_path / "out" / "log").exists():
                assert child.poll() is None
                assert time.monotonic() < end, "the training did not begin"
                time.sleep(0.02)
            yield Running(mpi, child, mark)
        finally:
            mpi.kill_marked(mark)
            child.communicate(timeout=10)

    return running


def check(folder: Path, name: str, code: int, stderr: str) -> None:
    assert code == 75, stderr
    first, second = ((folder / f"rank-{rank}-0").read_text() for rank in range(2))
    assert first == second
    iteration = first.split()[1]
    assert stderr.count(f"distrain: stopped at iteration {iteration} by {name}; ") == 1
    assert stderr.startswith("distrain: stopped at")
    assert (folder / f"snapshot_iter_{iteration}").exists()


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGUSR2"])
def test_a_signal_to_the_launcher(start: Callable[..., Any], tmp_path: Path, name: str) -> None:
    with start("processes") as job:
        job.child.send_signal(signal.Signals[name])
        check(tmp_path / "out", name, *job.end())


def test_a_signal_to_every_process_of_the_job(start: Callable[..., Any], mpi_python: str, tmp_path: Path) -> None:
    if "openmpi" in mpi_python:
        pytest.skip("Open MPI's mpiexec takes the ranks with it")
    with start("processes") as job:
        for pid in job.mpi.marked(job.mark):
            os.kill(pid, signal.SIGTERM)
        check(tmp_path / "out", "SIGTERM", *job.end())


def test_the_grace_is_over_some_time(start: Callable[..., Any], tmp_path: Path) -> None:
    with start("stuck", options=("--grace", "0.5")) as job:
        end = time.monotonic() + 40
        while len(list((tmp_path / "out").glob("stuck-*"))) < 2:
            assert time.monotonic() < end
            time.sleep(0.02)
        job.child.send_signal(signal.SIGTERM)
        code, stderr = job.end()
    assert code == 143
    assert "ranks 0, 1 did not end within 0.5 s of SIGTERM, so the job was killed.\n" in stderr
    assert list((tmp_path / "out").glob("snapshot_iter_*")) == []


def test_the_end_of_another_rank_is_no_wish_to_stop(start: Callable[..., Any], tmp_path: Path) -> None:
    with start("alone") as job:  # each rank trains by itself, so one could stop without the other
        os.kill(int((tmp_path / "out" / "pid-1").read_text()), signal.SIGKILL)
        code, stderr = job.end()
    assert code == 137
    assert "rank 1 of 2" in stderr
    assert list((tmp_path / "out").glob("snapshot_iter_*")) == []
