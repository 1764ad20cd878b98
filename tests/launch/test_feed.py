from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

LIMIT_S = 60.0
DATA = """
from distrain.datasets import TupleDataset
import numpy as np

def load():
    return TupleDataset(np.arange(50), np.arange(50))

if __name__ == "__main__":
    raise SystemExit("this script is imported, not run")
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DISTRAIN_KEYS", str(tmp_path / "keys"))
    (tmp_path / "a script.py").write_text(DATA)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "keys"


def wait_until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + LIMIT_S
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return found


@pytest.fixture
def running() -> Iterator[subprocess.Popen[str]]:
    """Two feeders that wait for a rank."""
    command = [sys.executable, "-m", "distrain_launch", "feed", "--connect", "tcp://127.0.0.1:1", "-n", "2"]
    process = subprocess.Popen([*command, "a script.py:load"], stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: len(workers(process)) == 2 and all(map(is_settled, workers(process))))
        yield process
    finally:
        process.kill()
        process.communicate(timeout=LIMIT_S)


def workers(process: subprocess.Popen[str]) -> list[int]:
    try:
        return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    except OSError:
        return []


def is_settled(pid: int) -> bool:
    """Whether it ignores SIGINT: then it is also bound to die with the one that started it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    return bool(int(status.partition("SigIgn:")[2].split()[0], 16) >> (signal.SIGINT - 1) & 1)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nobody_is_left_when_it_ends(running: subprocess.Popen[str], number: signal.Signals) -> None:
    pids = workers(running)
    os.kill(pids[0], signal.SIGSTOP)
    running.send_signal(number)
    assert running.wait(LIMIT_S) == (0 if number != signal.SIGKILL else -signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def test_a_worker_that_dies_is_replaced(running: subprocess.Popen[str]) -> None:
    first, second = workers(running)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: len(workers(running)) == 2 and first not in workers(running))
    assert second in workers(running)
    running.terminate()
    said = running.communicate(timeout=LIMIT_S)[1]
    assert f"(pid {first}) has died: Killed" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["say whom to feed with what"]),
        (["--connect", "tcp://a:1", "a script.py:save"], ["has no save", "load"]),
    ],
)
def test_bad_requests_are_refused_at_once(mpi: Any, arguments: list[str], words: list[str]) -> None:
    result = mpi.run([sys.executable, "-m", "distrain_launch", "feed", *arguments])
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_make_key(mpi: Any, folder: Path) -> None:
    done = mpi.run([sys.executable, "-m", "distrain_launch", "feed", "--make-key", "cpu7"]).check()
    assert str(folder / "cpu7") in done.stdout
    assert sorted(path.name for path in (folder / "cpu7").iterdir()) == ["feeder.key", "server.pub"]
    assert (folder / "allowed" / "cpu7.pub").exists()
