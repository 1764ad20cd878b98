"""What ends a job, who it happens to, when, and through which door the job came: a table, each cell run for real.

A part of the cells is run with all tests. `make failures` runs all of them, and shows the table with the exit codes and
the seconds from the fault to the end of the last process, those beyond the target marked.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mpi
SUITE = str(Path(__file__).with_name("failure_suite.py"))
RUN, MPIEXEC, RUN_SLURM, SRUN = WAYS = ("distrain run", "mpiexec", "distrain run in Slurm", "srun")
VICTIMS = ("0", "1", "all")
MOMENTS = ("start", "step", "evaluation", "snapshot", "shutdown")
SLACK_S = 10.0  # for busy machines; the target on one of our own is in failure_table.py
ALL = "DISTRAIN_TEST_FAILURES"  # names the file that gets the cells of the whole table
GROUPS = Path("/sys/fs/cgroup")
GROUP_BYTES = 700 * 2**20
FILLING_S = 10.0  # to fill the memory of a group
NOTICING_S = 12.0  # that a rank is stopped, with a limit of one second: the others ask it, and wait for an answer
VARIABLES = {"CUDA_VISIBLE_DEVICES": "", "DISTRAIN_COLLECTIVE_TIMEOUT": "1"}


@dataclass(frozen=True)
class Fault:
    """What is expected: the exit code, and words of the report."""

    code: int
    words: str


FAULTS = {
    "exception": Fault(1, "ValueError: the cause"),
    "exception in a thread": Fault(1, "failed in thread reader:"),
    "import error": Fault(1, "ModuleNotFoundError"),
    "sys.exit(3)": Fault(3, "code 3"),
    "raise SystemExit(3)": Fault(3, "code 3"),
    "os._exit(3)": Fault(3, "ended with exit code 3."),
    "SIGKILL": Fault(137, "was ended by SIGKILL (signal 9): not by the kernel for want of memory"),
    "SIGSEGV": Fault(139, "was ended by SIGSEGV (signal 11): a compiled library"),
    "SIGABRT": Fault(134, "was ended by SIGABRT (signal 6): a compiled library"),
    "SIGSTOP": Fault(1, "does not answer: it is stopped, or hangs outside of Python"),
    "OOM (ulimit)": Fault(1, "MemoryError"),
    "OOM (cgroup)": Fault(137, "the kernel killed it because memory ran out (OOM); its control group"),
}
SIGNALS = {
    "Ctrl-C": [signal.SIGINT],
    "Ctrl-C twice": [signal.SIGINT] * 2,
    "TERM": [signal.SIGTERM],
    "KILL": [signal.SIGKILL],
}


def why_not(way: str, fault: str, victim: str, moment: str) -> str:
    """Why a cell means nothing; empty if it does."""
    if fault == "OOM (cgroup)" and way in (RUN_SLURM, SRUN):
        return "Slurm, not the test, chooses the control group of a rank"
    if fault == "SIGSTOP" and victim == "all":
        return "a job that is suspended as a whole may go on, see test_suspended.py"
    if fault == "SIGSTOP" and moment == "start":
        return "MPI_Init waits for a rank that is not there as long as it likes; Ctrl-C ends it"
    is_exit = fault in ("sys.exit(3)", "raise SystemExit(3)", "os._exit(3)")
    if way == MPIEXEC and moment == "start" and victim != "all" and is_exit and "openmpi" not in sys.executable:
        return "MPICH's mpiexec does not mind a rank that ends before MPI_Init, where the others wait for it for ever"
    if moment == "start" and fault == "exception in a thread":
        return "before distrain is imported a thread's exception ends nothing, as in Python"
    return ""


def cells(way: str) -> list[tuple[str, str, str]]:
    """Fault, victim and moment of the cells to run: all of them, or a part."""
    everything = [(f, v, m) for f in FAULTS for v in VICTIMS for m in MOMENTS if not why_not(way, f, v, m)]
    if ALL in os.environ:
        return everything
    some = {
        RUN: lambda f, v, m: (
            (m == "step" and (v != "0" or f in ("exception", "SIGKILL", "SIGSTOP")))
            or (v == "1" and f in ("exception", "SIGKILL"))
            or (f, v, m) == ("import error", "all", "start")
        ),
        MPIEXEC: lambda f, v, m: (m == "step" and v == "1" and f != "SIGSTOP") or (f, m) == ("exception", "step"),
        RUN_SLURM: lambda f, v, m: v == "1" and f in ("exception", "SIGKILL") and m in ("start", "step", "snapshot"),
        SRUN: lambda f, v, m: (f, v, m) in (("exception", "1", "step"), ("SIGKILL", "all", "step")),
    }
    return [cell for cell in everything if some[way](*cell)]


def slack_s(fault: str) -> float:
    """Seconds that a fault may take beyond the target."""
    return SLACK_S + FILLING_S * fault.startswith("OOM") + NOTICING_S * (fault == "SIGSTOP")


def note(way: str, fault: str, victim: str, moment: str, code: int, seconds: float) -> None:
    if ALL in os.environ:
        with open(os.environ[ALL], "a") as file:
            file.write(json.dumps([way, fault, victim, moment, code, round(seconds, 2)]) + "\n")


@contextmanager
def small_group() -> Iterator[list[str]]:
    """A control group with little memory, as words before a command; skips where there can be none."""
    base = next((path for path in (GROUPS / "memory", GROUPS) if (path / "cgroup.procs").exists()), None)
    if base is None or os.geteuid() != 0:
        pytest.skip("needs root and a control group for memory in /sys/fs/cgroup")
    folder = base / f"distrain-test-{uuid.uuid4().hex}"
    try:
        folder.mkdir()
        is_v2 = base == GROUPS
        if is_v2 and "memory" not in (folder / "cgroup.controllers").read_text().split():
            pytest.skip(f"{GROUPS} does not let its groups limit memory (cgroup.subtree_control)")
        (folder / ("memory.max" if is_v2 else "memory.limit_in_bytes")).write_text(str(GROUP_BYTES))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    try:
        yield ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(folder / "cgroup.procs")]
    finally:
        end = time.monotonic() + 5
        while folder.exists() and time.monotonic() < end:
            try:
                folder.rmdir()
            except OSError:
                time.sleep(0.05)


def began(folder: Path) -> float:
    return min(float(text) for path in folder.glob("began-*") if (text := path.read_text()))  # "": killed meanwhile


def check_report(stderr: str, fault: str, victim: str, moment: str, host: str) -> None:
    """The report is there once, and it is the last thing that was printed."""
    expected = FAULTS[fault]
    *_, report = re.split(r"^(?=rank \d of 2 on )", stderr, flags=re.MULTILINE)
    number = {"all": "[01]", "0": "1" if fault == "SIGSTOP" else "0", "1": "0" if fault == "SIGSTOP" else "1"}[victim]
    when = "" if moment == "start" else ", iteration 3,"
    assert re.match(rf"rank {number} of 2 on {host} \(pid \d+\){when} ", report), stderr
    assert expected.words in report, stderr
    if expected.code > 128 and (victim, moment) == ("1", "step"):  # it could not say itself where it was
        assert re.search(r"^The last collectives:\n  rank 0: .*\n  rank 1: in none; the last was ", report, re.M)
    assert not re.search(r"^\[", report, flags=re.MULTILINE)  # no line of another rank
    if fault == "SIGSTOP":
        assert re.search(rf"rank {victim} \({host}\),? does not answer", report), stderr
    last = report.splitlines()[-1]
    assert last.startswith(("All that it printed is in ", "Rank 1 failed alike.")), stderr


@pytest.mark.parametrize(("fault", "victim", "moment"), cells(RUN))
def test_distrain_run(mpi: Any, tmp_path: Path, fault: str, victim: str, moment: str) -> None:
    run_with_launcher(mpi, sys.executable, tmp_path, fault, victim, moment)


@pytest.mark.parametrize("fault", ["exception", "raise SystemExit(3)", "SIGSEGV"])
def test_distrain_run_with_the_other_mpi(mpi: Any, tmp_path: Path, fault: str) -> None:
    others = mpi.interpreters()[1:]
    if not others:
        pytest.skip("needs a second MPI: set DISTRAIN_TEST_PYTHONS to an interpreter that has one")
    run_with_launcher(mpi, others[0], tmp_path, fault, "1", "step")


@pytest.mark.slurm
@pytest.mark.parametrize(("fault", "victim", "moment"), cells(RUN_SLURM))
def test_distrain_run_in_slurm(cluster: Any, mpi: Any, tmp_path: Path, fault: str, victim: str, moment: str) -> None:
    before = ["env", f"SLURM_CONF={cluster.environ['SLURM_CONF']}", "salloc", "-Q", "-N2", "--ntasks-per-node=1"]
    run_with_launcher(mpi, sys.executable, tmp_path, fault, victim, moment, before)


def run_with_launcher(
    mpi: Any, python: str, folder: Path, fault: str, victim: str, moment: str, before: list[str] | None = None
) -> None:
    options = ["-n", "2", "--log-dir", str(folder / "logs")]
    command = [python, "-m", "distrain_launch", "run", *options, SUITE, fault, victim, moment, str(folder)]
    if fault == "OOM (cgroup)":
        with small_group() as words:
            done = mpi.run([*words, *command], env=VARIABLES, timeout=60)
    else:
        done = mpi.run([*(before or []), *command], env=VARIABLES, timeout=60)
    assert list(folder.glob("began-*")), f"it did not come to its failure\n{done.stdout}\n{done.stderr}"
    seconds = time.time() - began(folder)
    check_report(done.stderr, fault, victim, moment, "node[01]" if before else re.escape(os.uname().nodename))
    assert done.returncode == FAULTS[fault].code
    assert seconds < slack_s(fault)
    if python == sys.executable:
        note(RUN_SLURM if before else RUN, fault, victim, moment, done.returncode, seconds)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "victim", "moment"), cells(MPIEXEC))
def test_mpiexec(mpi: Any, tmp_path: Path, fault: str, victim: str, moment: str) -> None:
    command = mpi.mpiexec.command(
        mpi.mpiexec.find(), 2, [sys.executable, SUITE, fault, victim, moment, str(tmp_path)], mpi.Machine.here()
    )
    env = {**command.variables, **VARIABLES}
    if fault == "OOM (cgroup)":
        with small_group() as words:
            done = mpi.run([*words, *command.arguments], env=env, timeout=60)
    else:
        done = mpi.run(command.arguments, env=env, timeout=60)
    seconds = time.time() - began(tmp_path)
    expected = FAULTS[fault]
    if expected.code < 128:  # for signals each mpiexec has a code of its own
        assert done.returncode == expected.code
    if expected.code == 1 or (
        fault == "raise SystemExit(3)" and victim != "all" and moment not in ("start", "shutdown")
    ):
        assert expected.words in done.stderr
    assert done.returncode != 0
    assert seconds < slack_s(fault)
    note(MPIEXEC, fault, victim, moment, done.returncode, seconds)


@pytest.mark.slurm
@pytest.mark.parametrize(("fault", "victim", "moment"), cells(SRUN))
def test_srun(cluster: Any, mpi: Any, tmp_path: Path, fault: str, victim: str, moment: str) -> None:
    """Slurm has the last word and the exit code: the highest one, with those of the ranks that it ended itself."""
    options = ["-N2", "-n2", f"--mpi={'pmix' if 'openmpi' in sys.executable else 'pmi2'}", "--kill-on-bad-exit=1"]
    command = ["srun", *options, sys.executable, SUITE, fault, victim, moment, str(tmp_path)]
    done = mpi.run(command, env={**cluster.environ, **VARIABLES}, timeout=60)
    seconds = time.time() - began(tmp_path)
    expected = FAULTS[fault]
    assert done.returncode in (expected.code, 137, 143)
    if expected.code == 1:
        assert expected.words in done.stderr
    assert seconds < SLACK_S + slack_s(fault)  # with Slurm's KillWait, 5 s in this cluster
    note(SRUN, fault, victim, moment, done.returncode, seconds)


@pytest.mark.parametrize("way", [RUN, MPIEXEC])
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("moment", MOMENTS if ALL in os.environ else ["step"])
def test_signals_to_the_launcher(mpi: Any, tmp_path: Path, name: str, way: str, moment: str) -> None:
    options = ["--grace", "0.5"] if way == RUN else []  # the step does not end before that
    code, seconds = end_by_signals(mpi, tmp_path, way, SIGNALS[name], "none", "launcher", moment, *options)
    if way == RUN:
        assert code == {"Ctrl-C": 130, "Ctrl-C twice": 130, "TERM": 143, "KILL": -signal.SIGKILL}[name]
    note(way, name, "launcher", moment, code, seconds)


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("moment", MOMENTS if ALL in os.environ else ["step", "shutdown"])
def test_ctrl_c_reaches_a_job_with_stopped_ranks(mpi: Any, tmp_path: Path, victim: str, moment: str) -> None:
    patience = ["--shutdown-timeout", "0.5"]
    code, seconds = end_by_signals(mpi, tmp_path, RUN, [signal.SIGINT], "SIGSTOP", victim, moment, *patience)
    assert code == 130
    note(RUN, "SIGSTOP, then Ctrl-C", victim, moment, code, seconds)


def end_by_signals(
    mpi: Any, folder: Path, way: str, numbers: list[int], fault: str, victim: str, moment: str, *options: str
) -> tuple[int, float]:
    """Exit code of the launcher or mpiexec that gets these signals, and the seconds until nothing is left."""
    program = [SUITE, fault, victim, moment, str(folder)]
    variables = {**VARIABLES, "DISTRAIN_GRACE": "0.5"}
    if way == RUN:
        command = [sys.executable, "-m", "distrain_launch", "run", "-n", "2", *options, *program]
    else:
        made = mpi.mpiexec.command(mpi.mpiexec.find(), 2, [sys.executable, *program], mpi.Machine.here())
        command, variables = made.arguments, {**variables, **made.variables}
    mark = uuid.uuid4().hex
    child = subprocess.Popen(
        command,
        env=mpi.environment(mark, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    victims = 1 if victim in ("0", "1") else 2
    try:
        end = time.monotonic() + 30
        while len(list(folder.glob("began-*"))) < victims:
            assert time.monotonic() < end, "the ranks did not start"
            time.sleep(0.02)
        time.sleep(0.2)
        start = time.monotonic()
        for number in numbers:
            child.send_signal(number)
            time.sleep(0.05)
        code = child.wait(SLACK_S)
        assert mpi.wait_until_gone(mark, SLACK_S) == []
        return code, time.monotonic() - start
    finally:
        mpi.kill_marked(mark)
        child.wait(10)


@pytest.mark.parametrize("way", [RUN, MPIEXEC])
def test_a_script_that_is_missing(mpi: Any, way: str) -> None:
    if way == RUN:
        done = mpi.run([sys.executable, "-m", "distrain_launch", "run", "-n", "2", "missing.py"])
        assert "missing.py does not exist (looked in " in done.stderr
    else:
        done = mpi.run_ranks("missing.py", 2)
    assert done.returncode == 2
    note(way, "script missing", "all", "start", done.returncode, done.seconds)


@pytest.mark.parametrize("way", [RUN, MPIEXEC])
def test_a_script_with_a_syntax_error(mpi: Any, tmp_path: Path, way: str) -> None:
    script = tmp_path / "train.py"
    script.write_text("def f(:\n")
    if way == RUN:
        done = mpi.run([sys.executable, "-m", "distrain_launch", "run", "-n", "2", str(script)])
        assert done.stderr.endswith("  SyntaxError: invalid syntax\nRank 1 failed alike.\n")
    else:
        done = mpi.run_ranks(script, 2)
        assert "SyntaxError: invalid syntax" in done.stderr
    assert done.returncode == 1
    note(way, "syntax error", "all", "start", done.returncode, done.seconds)
