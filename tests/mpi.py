"""Real ranks for tests: starts them with the mpiexec of an interpreter's environment, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from distrain_launch import mpiexec
from distrain_launch.mpiexec import Command, Machine

REPO = Path(__file__).resolve().parents[1]
_MARK = "DISTRAIN_TEST_RUN"


@dataclass(frozen=True)
class Result:
    """How a run ended. The code is negative where a signal ended the process that was started."""

    returncode: int
    stdout: str
    stderr: str
    seconds: float

    def check(self) -> Result:
        """Itself, if the run succeeded; else an assertion that shows what was printed."""
        assert self.returncode == 0, f"exit code {self.returncode}\n{self.stdout}\n{self.stderr}"
        return self


def interpreters() -> list[str]:
    """Interpreters whose MPI the tests use: this one, and those in DISTRAIN_TEST_PYTHONS."""
    others = os.environ.get("DISTRAIN_TEST_PYTHONS", "").split(os.pathsep)
    return list(dict.fromkeys([sys.executable, *filter(None, others)]))


def rank_counts() -> list[int]:
    """Numbers of ranks to try, from DISTRAIN_TEST_RANKS (default 1,2,4)."""
    return [int(n) for n in os.environ.get("DISTRAIN_TEST_RANKS", "1,2,4").split(",")]


def run_ranks(
    script: str | Path,
    n: int,
    *args: str,
    timeout: float = 60.0,
    python: str | None = None,
    env: Mapping[str, str] | None = None,
) -> Result:
    """Runs a script on n ranks; a text with line breaks is the script itself.

    Raises:
        AssertionError: the time limit passed, or processes outlived the run. They are killed.
    """
    python = python or sys.executable
    with tempfile.TemporaryDirectory(prefix="distrain-test-") as folder:
        path = script
        if isinstance(script, str) and "\n" in script:
            path = Path(folder) / "script.py"
            path.write_text(textwrap.dedent(script))
        program = [python, str(path), *args]
        command = Command(program)
        if n > 1:
            command = mpiexec.command(mpiexec.find(python=python), n, program, Machine.here())
        return run(command.arguments, timeout=timeout, env={**command.variables, **(env or {})})


def environment(mark: str, env: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which ranks find distrain, and by which they are found."""
    paths = [str(REPO), str(REPO / "launch"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(env or {}), _MARK: mark}


def run(arguments: Sequence[str], *, timeout: float = 60.0, env: Mapping[str, str] | None = None) -> Result:
    """Runs a command; its processes, wherever they hide, must be gone soon after it and within the time limit."""
    mark = uuid.uuid4().hex
    start = time.monotonic()
    child = subprocess.Popen(
        arguments,
        env=environment(mark, env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    late = False
    try:
        stdout, stderr = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        late = True
        kill_marked(mark)
        stdout, stderr = child.communicate(timeout=10)
    finally:
        left = [] if late else wait_until_gone(mark, 5.0)
        kill_marked(mark)
        child.wait(10)
    shown = f"{' '.join(arguments)}\n{stdout}\n{stderr}"
    assert not late, f"not over after {timeout} s: {shown}"
    assert not left, f"processes {left} outlived {shown}"
    return Result(child.returncode, stdout, stderr, time.monotonic() - start)


def marked(mark: str) -> list[int]:
    """Living processes that were started with this mark in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if f"{_MARK}={mark}".encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue  # it ended while we looked, or is not ours
    return found


def wait_until_gone(mark: str, seconds: float) -> list[int]:
    """The marked processes that are still there when the time is up."""
    end = time.monotonic() + seconds
    while (left := marked(mark)) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def kill_marked(mark: str) -> None:
    """Kills all marked processes, those that they start meanwhile included."""
    while left := marked(mark):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        time.sleep(0.02)
