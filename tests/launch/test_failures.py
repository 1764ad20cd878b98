"""What ends a job, who it happens to, and through which door the job came: a table, each cell of it run for real.

make failures      shows it, with the exit code and the seconds from the fault to the end of the last process
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.mpi
WAYS = ("distrain run", "mpiexec")
VICTIMS = ("0", "1", "all")
SLACK_S = 10.0  # targets are 2 s on a machine of our own

SCRIPT = """
import os, pathlib, signal, sys, threading, time
import numpy as np
from distrain.env import rank_info

fault, victim, folder = sys.argv[1:]
rank = rank_info().rank
is_victim = victim in ("all", str(rank))

def begin():
    (pathlib.Path(folder) / f"began-{rank}").write_text(str(time.time()))

if fault == "import error" and is_victim:
    begin()
    import module_that_is_not_there

import distrain
import distrain.links as L
from distrain import training

def raise_in_thread():
    raise ValueError("the cause")

def act():
    if fault == "exception":
        raise ValueError("the cause")
    if fault == "exception in a thread":
        threading.Thread(target=raise_in_thread, name="reader").start()
        time.sleep(60)
    if fault == "sys.exit(3)":
        sys.exit(3)
    if fault == "raise SystemExit(3)":
        raise SystemExit(3)
    if fault == "os._exit(3)":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, fault))
    time.sleep(60)

def fail(trainer):
    if trainer.updater.iteration == 3 and is_victim:
        begin()
        act()
    elif trainer.updater.iteration == 3 and victim == "launcher":
        begin()
        time.sleep(60)

x = np.zeros((8, 4), np.float32)
data = distrain.datasets.TupleDataset(x, np.zeros((8, 1), np.float32))
model = L.Classifier(L.Linear(4, 1), lossfun=distrain.functions.mean_squared_error)
model.compute_accuracy = False
optimizer = distrain.optimizers.SGD().setup(model)
iterator = distrain.iterators.SerialIterator(data, 4)
trainer = training.Trainer(training.StandardUpdater(iterator, optimizer), (10**6, "iteration"), out=folder)
trainer.extend(fail)
trainer.run()
"""


@dataclass(frozen=True)
class Fault:
    """What is expected: the exit code (0: any that is not zero), and words of the report."""

    code: int
    words: str
    iteration: bool = True


FAULTS = {
    "exception": Fault(1, "ValueError: the cause"),
    "exception in a thread": Fault(1, "failed in thread reader:"),
    "import error": Fault(1, "ModuleNotFoundError", iteration=False),
    "sys.exit(3)": Fault(3, "code 3"),
    "raise SystemExit(3)": Fault(3, "code 3"),
    "os._exit(3)": Fault(3, "ended with exit code 3."),
    "SIGKILL": Fault(137, "was ended by SIGKILL (signal 9): usually"),
    "SIGSEGV": Fault(139, "was ended by SIGSEGV (signal 11): a compiled library"),
    "SIGABRT": Fault(134, "was ended by SIGABRT (signal 6): a compiled library"),
}
NOT_RUN = {
    ("SIGSTOP", "mpiexec"): "nobody tells a stopped rank from a slow one",
    ("script missing", "0"): "one script for all ranks",
    ("script missing", "1"): "one script for all ranks",
}
SIGNALS = {
    "Ctrl-C": [signal.SIGINT],
    "Ctrl-C twice": [signal.SIGINT] * 2,
    "TERM": [signal.SIGTERM],
    "KILL": [signal.SIGKILL],
}
TABLE: dict[tuple[str, str, str], str] = {}


@pytest.fixture(scope="module", autouse=True)
def _show_the_table() -> Iterator[None]:
    yield
    columns = [(way, victim) for way in WAYS for victim in (*VICTIMS, "launcher")]
    rows = list(dict.fromkeys(fault for fault, _, _ in TABLE))
    print("\n\nfault | " + " | ".join(f"{way}, {victim}" for way, victim in columns))
    print("|".join(["---"] * (len(columns) + 1)))
    for fault in rows:
        cells = (TABLE.get((fault, way, victim), "") for way, victim in columns)
        print(f"{fault} | " + " | ".join(cells))
    print("\n".join(f"not run: {' / '.join(cell)}: {reason}" for cell, reason in NOT_RUN.items()))


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "train.py"
    path.write_text(SCRIPT)
    return path


def began(folder: Path) -> float:
    return min(float(text) for path in folder.glob("began-*") if (text := path.read_text()))  # "": killed meanwhile


def check_report(stderr: str, fault: Fault, victim: str) -> None:
    """The report is there once, and it is the last thing that was printed."""
    *_, report = re.split(r"^(?=rank \d of 2 on )", stderr, flags=re.MULTILINE)
    where = f"{os.uname().nodename} (pid "
    number = "[01]" if victim == "all" else victim
    when = ", iteration 3," if fault.iteration else ""
    assert re.match(rf"rank {number} of 2 on {re.escape(where)}\d+\){when} ", report), stderr
    assert fault.words in report
    if fault.code > 128 and victim == "1":  # it could not say itself where it was
        assert re.search(
            r"^The last collectives:\n  rank 0: .*\n  rank 1: in none; the last was ", report, re.MULTILINE
        )
    assert not re.search(r"^\[", report, flags=re.MULTILINE)  # no line of another rank
    last = report.splitlines()[-1]
    assert last.startswith(("All that it printed is in ", "Rank 1 failed alike.")), stderr


@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("fault", FAULTS)
def test_distrain_run(mpi: Any, tmp_path: Path, script: Path, fault: str, victim: str) -> None:
    run_with_launcher(mpi, sys.executable, tmp_path, script, fault, victim)


@pytest.mark.parametrize("fault", ["exception", "raise SystemExit(3)", "SIGSEGV"])
def test_distrain_run_with_the_other_mpi(mpi: Any, tmp_path: Path, script: Path, fault: str) -> None:
    others = mpi.interpreters()[1:]
    if not others:
        pytest.skip("needs a second MPI: set DISTRAIN_TEST_PYTHONS to an interpreter that has one")
    run_with_launcher(mpi, others[0], tmp_path, script, fault, "1")


def run_with_launcher(mpi: Any, python: str, folder: Path, script: Path, fault: str, victim: str) -> None:
    options = ["-n", "2", "--log-dir", str(folder / "logs")]
    command = [python, "-m", "distrain_launch", "run", *options, str(script), fault, victim, str(folder)]
    done = mpi.run(command, env={"CUDA_VISIBLE_DEVICES": ""}, timeout=40)
    seconds = time.time() - began(folder)
    check_report(done.stderr, FAULTS[fault], victim)
    assert done.returncode == FAULTS[fault].code
    assert seconds < SLACK_S
    if python == sys.executable:
        TABLE[fault, "distrain run", victim] = f"{done.returncode} ({seconds:.1f} s)"


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("fault", FAULTS)
def test_mpiexec(mpi: Any, tmp_path: Path, script: Path, fault: str, victim: str) -> None:
    done = mpi.run_ranks(script, 2, fault, victim, str(tmp_path), timeout=40)
    seconds = time.time() - began(tmp_path)
    expected = FAULTS[fault]
    if expected.code < 128:  # for signals each mpiexec has a code of its own
        assert done.returncode == expected.code
    if expected.code == 1 or (fault == "raise SystemExit(3)" and victim != "all"):
        assert expected.words in done.stderr
    assert done.returncode != 0
    assert seconds < SLACK_S
    TABLE[fault, "mpiexec", victim] = f"{done.returncode} ({seconds:.1f} s)"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SIGNALS)
def test_signals_to_the_launcher(mpi: Any, tmp_path: Path, script: Path, name: str, way: str) -> None:
    options = ["--grace", "0.5"] if way == "distrain run" else []  # the step does not end before that
    code, seconds = end_by_signals(mpi, tmp_path, script, way, SIGNALS[name], "none", "launcher", *options)
    if way == "distrain run":
        assert code == {"Ctrl-C": 130, "Ctrl-C twice": 130, "TERM": 143, "KILL": -signal.SIGKILL}[name]
    TABLE[name, way, "launcher"] = f"{code} ({seconds:.1f} s)"


@pytest.mark.parametrize("victim", VICTIMS)
def test_ctrl_c_reaches_a_job_with_stopped_ranks(mpi: Any, tmp_path: Path, script: Path, victim: str) -> None:
    code, seconds = end_by_signals(
        mpi, tmp_path, script, "distrain run", [signal.SIGINT], "SIGSTOP", victim, "--shutdown-timeout", "0.5"
    )
    assert code == 130
    TABLE["SIGSTOP, then Ctrl-C", "distrain run", victim] = f"{code} ({seconds:.1f} s)"


def end_by_signals(
    mpi: Any,
    folder: Path,
    script: Path,
    way: str,
    numbers: list[int],
    fault: str = "none",
    victim: str = "launcher",
    *options: str,
) -> tuple[int, float]:
    """Exit code of the launcher or mpiexec that gets these signals, and the seconds until nothing is left."""
    program, variables = (
        [str(script), fault, victim, str(folder)],
        {"CUDA_VISIBLE_DEVICES": "", "DISTRAIN_GRACE": "0.5"},
    )
    if way == "distrain run":
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


@pytest.mark.parametrize("way", WAYS)
def test_a_script_that_is_missing(mpi: Any, way: str) -> None:
    if way == "distrain run":
        done = mpi.run([sys.executable, "-m", "distrain_launch", "run", "-n", "2", "missing.py"])
        assert "missing.py does not exist (looked in " in done.stderr
    else:
        done = mpi.run_ranks("missing.py", 2)
    assert done.returncode == 2
    TABLE["script missing", way, "all"] = f"{done.returncode} ({done.seconds:.1f} s)"
