from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte
import pytest

pytestmark = pytest.mark.mpi
RUN = ["-m", "distrain_launch", "run", "-n", "2"]

# Every rank says that it is ready by a file, does what it is told, and waits to be ended.
SCRIPT = """
import os, pathlib, signal, subprocess, sys, time
from distrain.env import rank_info
rank, folder, how = rank_info().rank, pathlib.Path(sys.argv[1]), sys.argv[2]
heard = lambda number, frame: (folder / f"heard-{rank}").open("a").write(signal.Signals(number).name + " ")
if how == "tidy":
    signal.signal(signal.SIGTERM, lambda number, frame: (heard(number, frame), sys.exit(75)))
elif how == "well":
    signal.signal(signal.SIGTERM, lambda number, frame: (heard(number, frame), sys.exit(0)))
elif how == "deaf":
    signal.signal(signal.SIGINT, heard), signal.signal(signal.SIGTERM, heard)
elif how == "listen":
    [signal.signal(getattr(signal, "SIG" + name), heard) for name in ("USR1", "USR2", "HUP", "QUIT")]
elif how == "family":
    grandchild = "import os, time; os.setsid(); time.sleep(60)"
    subprocess.Popen([sys.executable, "-c", f"import os; os.fork() or exec({grandchild!r}); os._exit(0)"])
    time.sleep(0.5)
(folder / f"ready-{rank}").write_text(str(os.getpid()))
if how == "stopped" and rank == 1:
    os.kill(os.getpid(), signal.SIGSTOP)
end = time.monotonic() + 40
while time.monotonic() < end and not (folder / f"end-{rank}").exists():
    time.sleep(0.02)
"""


class Running:
    """A launcher with two ranks that are ready."""

    def __init__(self, mpi: Any, child: subprocess.Popen[str], mark: str, folder: Path) -> None:
        self.mpi, self.child, self.mark, self.folder = mpi, child, mark, folder

    def pid(self, rank: int) -> int:
        return int((self.folder / f"ready-{rank}").read_text())

    def parent(self, pid: int) -> int:
        return int(re.findall(r"PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[0])

    def heard(self, rank: int) -> str:
        path = self.folder / f"heard-{rank}"
        return path.read_text() if path.exists() else ""

    def wait_for(self, condition: Any, what: str) -> None:
        end = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < end, f"not in time: {what}"
            time.sleep(0.02)

    def end(self, seconds: float = 20) -> tuple[int, str]:
        """Exit code and standard error; everything is gone then."""
        _, stderr = self.child.communicate(timeout=seconds)
        assert self.mpi.wait_until_gone(self.mark, 3.0) == []
        return self.child.returncode, stderr


@contextmanager
def running(mpi: Any, python: str, folder: Path, how: str, *options: str) -> Iterator[Running]:
    script, mark = folder / "script.py", uuid.uuid4().hex
    script.write_text(SCRIPT)
    child = subprocess.Popen(
        [python, *RUN, *options, str(script), str(folder), how],
        env=mpi.environment(mark, {"CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(folder)}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        job = Running(mpi, child, mark, folder)
        files = [folder / f"ready-{rank}" for rank in range(2)]
        job.wait_for(lambda: all(file.exists() and file.read_text() for file in files), "the ranks are ready")
        yield job
    finally:
        mpi.kill_marked(mark)
        child.communicate(timeout=10)
    assert list(folder.glob("distrain-*")) == []  # the folder of the socket


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_job(mpi: Any, mpi_python: str, tmp_path: Path, number: signal.Signals, code: int) -> None:
    with running(mpi, mpi_python, tmp_path, "") as job:
        job.child.send_signal(number)
        assert job.end()[0] == code


@pytest.mark.parametrize(("how", "code", "words"), [("tidy", 75, ""), ("well", 0, "")], ids=["with a code", "well"])
def test_ranks_that_hear_a_signal_end_as_they_want(
    mpi: Any, mpi_python: str, tmp_path: Path, how: str, code: int, words: str
) -> None:
    with running(mpi, mpi_python, tmp_path, how) as job:
        job.child.send_signal(signal.SIGTERM)
        assert job.end() == (code, words)
        assert [job.heard(rank) for rank in range(2)] == ["SIGTERM ", "SIGTERM "]


def test_other_signals_are_passed_on_once_and_end_nothing(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(mpi, mpi_python, tmp_path, "listen") as job:
        for name in ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT"):
            job.child.send_signal(signal.Signals[name])
            job.wait_for(lambda name=name: all(name in job.heard(rank) for rank in range(2)), name)
        for rank in range(2):
            assert job.heard(rank) == "SIGUSR1 SIGUSR2 SIGHUP SIGQUIT "
            (tmp_path / f"end-{rank}").touch()
        assert job.end() == (0, "")


def test_the_second_ctrl_c_ends_at_once(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(mpi, mpi_python, tmp_path, "deaf", "--shutdown-timeout", "60") as job:
        job.child.send_signal(signal.SIGINT)
        job.wait_for(lambda: all(job.heard(rank) for rank in range(2)), "the ranks have heard it")
        start = time.monotonic()
        job.child.send_signal(signal.SIGINT)
        code, stderr = job.end()
        assert (code, stderr) == (130, "distrain: ended by SIGINT.\n")
        assert time.monotonic() - start < 8
        assert [job.heard(rank) for rank in range(2)] == ["SIGINT ", "SIGINT "]


@pytest.mark.parametrize("how", ["deaf", "stopped"])
def test_the_shutdown_timeout(mpi: Any, mpi_python: str, tmp_path: Path, how: str) -> None:
    with running(mpi, mpi_python, tmp_path, how, "--shutdown-timeout", "0.5") as job:
        job.child.send_signal(signal.SIGINT)
        code, stderr = job.end()
        assert code == 130
        if how == "deaf":
            assert "ranks 0, 1 did not end within 0.5 s of SIGINT, so the job was killed." in stderr


def test_the_end_of_the_launcher_is_the_end_of_the_job(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(mpi, mpi_python, tmp_path, "deaf") as job:
        job.child.kill()
        assert job.end()[0] == -signal.SIGKILL


def test_what_a_rank_has_started_ends_with_it(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(mpi, mpi_python, tmp_path, "family") as job:
        os.kill(job.pid(1), signal.SIGKILL)
        code, stderr = job.end()
        assert code == 137
        assert f"rank 1 of 2 on {os.uname().nodename} (pid {job.pid(1)}) was ended by SIGKILL" in stderr


def test_a_keeper_that_is_killed_takes_its_rank_with_it(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(mpi, mpi_python, tmp_path, "") as job:
        os.kill(job.parent(job.pid(1)), signal.SIGKILL)
        code, stderr = job.end()
        assert code == 137
        assert "rank 1 of 2" in stderr
        assert "was lost: the process that looks after it (pid " in stderr


def test_an_mpiexec_that_is_killed_is_named(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(mpi, mpi_python, tmp_path, "") as job:
        (mpiexec,) = [pid for pid in mpi.marked(job.mark) if job.parent(pid) == job.child.pid]
        os.kill(mpiexec, signal.SIGKILL)
        code, stderr = job.end()
        assert code == 137
        assert stderr.rstrip().endswith("mpiexec was ended by SIGKILL and took the ranks with it.")


def test_a_log_file_without_room_does_not_end_the_training(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    script = tmp_path / "print.py"
    script.write_text("for i in range(2000):\n    print('x' * 99)\n")
    command = " ".join([mpi_python, *RUN, "--log-dir", str(tmp_path / "logs"), str(script)])
    environ = {"CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    done = mpi.run(["bash", "-c", f"ulimit -f 64; exec {command}"], env=environ).check()
    assert f"distrain: rank 1 on {os.uname().nodename}: its log file is incomplete: " in done.stderr
    assert len(done.stdout.splitlines()) == 4000
    assert (tmp_path / "logs" / "rank-1.log").stat().st_size == 64 * 1024


PRINT = """
import os, sys
from distrain.env import rank_info
rank = rank_info().rank
block = b"".join(b"%d %07d %s\\n" % (rank, i, b"x" * 89) for i in range(1000))
for i in range(200):
    os.write(1, block)
sys.exit(0)
"""


def test_fast_output_is_merged_without_loss(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    script = tmp_path / "print.py"
    script.write_text(PRINT)
    done = mpi.run([mpi_python, *RUN, "--log-dir", str(tmp_path), str(script)], env={"CUDA_VISIBLE_DEVICES": ""})
    lines = done.check().stdout.splitlines()
    host = os.uname().nodename.partition(".")[0]
    expected = [f"0 {i:07} {'x' * 89}" for i in range(1000)] * 200
    assert [line for line in lines if not line.startswith("[")] == expected
    assert len([line for line in lines if line.startswith(f"[{host}:1] 1 ")]) == 200_000
    assert (tmp_path / "rank-0.log").stat().st_size == 200_000 * 100


BAR = """
import sys, time
from distrain.env import rank_info
if rank_info().rank == 1:
    for i in range(10):
        print(f"line {i}", flush=True)
        time.sleep(0.05)
    sys.exit(0)
from rich.console import Console
from rich.live import Live
from distrain.training.extensions import terminal
out = terminal.stream(None)
assert terminal.is_terminal(out)
with Live(console=terminal.console(out), auto_refresh=False) as live:
    for i in range(25):
        live.update(f"first {i}\\nsecond {i}\\nthird {i}", refresh=True)
        time.sleep(0.04)
    time.sleep(0.2)
"""


def test_a_bar_of_rank_0_stays_intact(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    script, mark = tmp_path / "bar.py", uuid.uuid4().hex
    script.write_text(BAR)
    screen = pyte.HistoryScreen(60, 20, history=1000)
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    child = subprocess.Popen(
        [mpi_python, *RUN, str(script)],
        env=mpi.environment(mark, {"CUDA_VISIBLE_DEVICES": "", "TERM": "xterm", "COLUMNS": "", "LINES": ""}),
        stdin=subprocess.DEVNULL,
        stdout=side,
        stderr=side,
    )
    os.close(side)

    def read() -> None:
        stream = pyte.ByteStream(screen)
        try:
            while data := os.read(main, 4096):
                stream.feed(data)
        except OSError:  # how a pseudo-terminal says that nobody writes any more
            return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert child.wait(30) == 0
        reader.join(10)
    finally:
        mpi.kill_marked(mark)
        child.wait(10)
        reader.join(10)
        os.close(main)
    host = os.uname().nodename.partition(".")[0]
    shown = [line.rstrip() for line in screen.display if line.strip()]
    assert shown == [*(f"[{host}:1] line {i}" for i in range(10)), "first 24", "second 24", "third 24"]
    assert not screen.cursor.hidden


def test_a_reader_that_leaves_ends_the_job(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    script = tmp_path / "endless.py"
    script.write_text("import time\nwhile True:\n    print('x' * 1000, flush=True)\n    time.sleep(0.001)\n")
    command = " ".join([mpi_python, *RUN, str(script)])
    done = mpi.run(["bash", "-c", f"{command} | head -n 3; exit ${{PIPESTATUS[0]}}"], env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 141
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 3


def test_supervision_costs_next_to_nothing(mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    with running(mpi, mpi_python, tmp_path, "") as job:
        pids = [job.child.pid, *(job.parent(job.pid(rank)) for rank in range(2))]
        before = [_processor_time(pid) for pid in pids]
        time.sleep(2)
        used = sum(_processor_time(pid) for pid in pids) - sum(before)
        job.child.send_signal(signal.SIGTERM)
        job.end()
    assert used <= 0.01  # seconds of two: half a percent of a core


def _processor_time(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
