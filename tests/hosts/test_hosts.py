"""Jobs on several hosts, which are network namespaces of this machine; skipped, with the reason, without them.

`pytest -m netns -rs` runs them alone; they need root and iproute2.
"""

from __future__ import annotations

import json
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

pytestmark = [pytest.mark.netns, pytest.mark.mpi]
EXAMPLE = Path(__file__).parents[2] / "examples" / "train_mnist.py"
RUN = ["-m", "distrain_launch", "run"]
LIMIT_S = 90.0
COUNT = "from distrain import comm\nworld = comm.world()\nprint('rank', world.rank, 'of', world.size)\n"

# Each rank says that it is ready by a file, and waits to be ended.
WAITING = """
import os, pathlib, socket, sys, time
from distrain.env import rank_info
assert "DISTRAIN_LINK_SECRET" not in os.environ
path = pathlib.Path(sys.argv[1]) / f"ready-{rank_info().rank}"
path.with_suffix(".new").write_text(f"{os.getpid()} {socket.gethostname()}")
path.with_suffix(".new").rename(path)
end = time.monotonic() + 100
while time.monotonic() < end:
    time.sleep(0.05)
"""


@pytest.fixture
def run(hosts: Any, mpi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs `distrain run` on host a."""
    monkeypatch.chdir(tmp_path)

    def run(python: str, *options: str) -> Any:
        return mpi.run(hosts.on("a", python, *RUN, *options), timeout=LIMIT_S, env=hosts.variables())

    return run


@pytest.fixture
def count(tmp_path: Path) -> str:
    path = tmp_path / "count.py"
    path.write_text(COUNT)
    return str(path)


def test_a_training(run: Any, mpi_python: str, tmp_path: Path) -> None:
    done = run(mpi_python, "--hosts", "a:2,b:2", str(EXAMPLE), "--epoch", "2", "--out", "out").check()
    assert f"distrain: 4 ranks on a, b, started by {Path(mpi_python).parent}/mpiexec" in done.stderr
    entries = json.loads((tmp_path / "out" / "log").read_text())
    assert entries[-1]["main/loss"] < entries[0]["main/loss"]
    (start,) = json.loads((tmp_path / "out" / "run.json").read_text())["starts"]
    assert start["world"]["ranks"] == 4
    assert start["world"]["hosts"] == ["a", "a", "b", "b"]


def test_slots_that_differ_from_a_file(run: Any, mpi_python: str, tmp_path: Path, count: str) -> None:
    (tmp_path / "hosts.txt").write_text("# the lab\nb slots=1\na:2\n")
    done = run(mpi_python, "--hostfile", "hosts.txt", count).check()
    assert sorted(done.stdout.split()) == sorted("rank 0 of 3 [a:1] rank 1 of 3 [a:2] rank 2 of 3".split())
    assert run(mpi_python, "--hostfile", "hosts.txt", "-n", "1", count).check().stdout == "rank 0 of 1\n"


def test_more_ranks_than_slots(run: Any, mpi_python: str, count: str) -> None:
    done = run(mpi_python, "--hosts", "a:1,b:1", "-n", "3", count)
    assert (done.returncode, "give --oversubscribe" in done.stderr) == (2, True)
    done = run(mpi_python, "--hosts", "a:1,b:1", "-n", "3", "--oversubscribe", count).check()
    assert done.stdout.count("of 3") == 3


def test_a_name_that_nobody_knows(run: Any, count: str) -> None:
    done = run(sys.executable, "--hosts", "a:1,nowhere:1", count)
    assert done.returncode == 2
    assert "distrain: host nowhere is not known on a: " in done.stderr


def test_a_script_that_is_not_there(hosts: Any, run: Any, mpi_python: str) -> None:
    script = hosts.folder / "private" / "script.py"
    script.write_text(COUNT)
    done = run(mpi_python, "--hosts", "a:1,c:1", str(script))
    assert done.returncode == 2
    assert f"{script} does not exist on c, where rank 1 is to run" in done.stderr


def test_a_working_directory_that_is_not_shared(
    hosts: Any, run: Any, mpi_python: str, count: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hosts.folder / "private")
    done = run(mpi_python, "--hosts", "a:1,c:1", count).check()
    folder = hosts.folder / "private"
    assert done.stderr.count(f"c works in {folder}, which is not the {folder} of this machine") == 1


class Running:
    """A job of a rank on a and a rank on b that wait to be ended."""

    def __init__(self, mpi: Any, mark: str, child: subprocess.Popen[str], folder: Path) -> None:
        self.mpi, self.mark, self.child, self.folder = mpi, mark, child, folder

    def ready(self) -> list[Path]:
        return sorted(self.folder.glob("ready-[01]"))

    def pid(self, rank: int) -> int:
        return int(self.ready()[rank].read_text().split()[0])

    def words(self, pid: int) -> list[str]:
        try:
            return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        except OSError:  # it has just ended
            return []

    def launcher(self) -> int:
        """The process of `distrain run`."""
        for pid in self.mpi.marked(self.mark):
            if self.words(pid)[1:3] == RUN[:2]:
                return int(pid)
        raise AssertionError("no launcher")

    def end(self) -> tuple[int, str]:
        """Exit code and standard error; everything is gone then."""
        _, stderr = self.child.communicate(timeout=LIMIT_S)
        assert self.mpi.wait_until_gone(self.mark, 20.0) == []
        return self.child.returncode, stderr


@contextmanager
def running(hosts: Any, mpi: Any, python: str, folder: Path) -> Iterator[Running]:
    script, mark = folder / "script.py", uuid.uuid4().hex
    script.write_text(WAITING)
    child = subprocess.Popen(
        hosts.on("a", python, *RUN, "--hosts", "a:1,b:1", str(script), str(folder)),
        env=mpi.environment(mark, hosts.variables()),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        job, end = Running(mpi, mark, child, folder), time.monotonic() + LIMIT_S
        while len(job.ready()) < 2:
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < end, "the ranks are not ready in time"
            time.sleep(0.05)
        yield job
    finally:
        mpi.kill_marked(mark)
        child.communicate(timeout=30)


def test_a_killed_rank_is_named_with_its_host(hosts: Any, mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(hosts, mpi, mpi_python, tmp_path) as job:
        os.kill(job.pid(1), signal.SIGKILL)
        code, stderr = job.end()
        assert code == 137
        assert f"rank 1 of 2 on b (pid {job.pid(1)}) was ended by SIGKILL" in stderr


def test_ranks_end_with_a_killed_launcher(hosts: Any, mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(hosts, mpi, mpi_python, tmp_path) as job:
        os.kill(job.launcher(), signal.SIGKILL)
        job.end()


def test_a_signal_reaches_all_hosts(hosts: Any, mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(hosts, mpi, mpi_python, tmp_path) as job:
        os.kill(job.launcher(), signal.SIGTERM)
        code, stderr = job.end()
        assert code == 143
        assert stderr.endswith("distrain: ended by SIGTERM.\n")


def test_the_secret_is_on_no_command_line(hosts: Any, mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(hosts, mpi, mpi_python, tmp_path) as job:
        pids = mpi.marked(job.mark)
        environs = [Path(f"/proc/{pid}/environ").read_text() for pid in pids]
        (secret,) = {
            variable.partition("=")[2]
            for environ in environs
            for variable in environ.split("\0")
            if variable.startswith("DISTRAIN_LINK_SECRET=")
        }
        assert len(secret) == 64
        everybody = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
        assert not any(secret in word for pid in everybody for word in job.words(pid))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_host_that_is_cut_off(hosts: Any, mpi: Any, tmp_path: Path) -> None:
    """Its rank ends by itself, and the job on the others."""
    with running(hosts, mpi, sys.executable, tmp_path) as job:
        hosts.cut("b")
        try:
            code, stderr = job.end()
        finally:
            hosts.mend("b")
        assert code != 0
        assert "was lost: the process that looks after it" in stderr, stderr
        assert "has not answered for 30 s" in stderr
