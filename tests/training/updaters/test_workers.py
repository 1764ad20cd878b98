"""Workers that stop or hang, and what ends the main process: real scripts, processes and signals."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

_SOON_S = 30.0  # the machine may be busy; what is tested is that it happens

# In the second step the workers, or all, do not come back from their forward pass.
MAIN = """
import os, signal, sys, time
import numpy as np
import distrain.links as L
from distrain import iterators, optimizers, training
from distrain.training.updaters import MultiprocessParallelUpdater

how, main = sys.argv[1], os.getpid()

class Net(L.Chain):
    def __init__(self):
        super().__init__()
        self.steps, self.main = 0, main
        with self.init_scope():
            self.out = L.Linear(4, 2)

    def forward(self, x):
        self.steps += 1
        is_worker = os.getpid() != self.main
        if self.steps == 2 and is_worker and how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if self.steps == 2 and (is_worker or how == "wait"):
            while how != "stopped":
                time.sleep(0.01)
        if self.steps == 2 and how == "exception":
            raise ValueError("the cause")
        if self.steps == 2 and how == "os._exit":
            os._exit(3)
        if self.steps == 2 and how == "sys.exit":
            sys.exit(4)
        return self.out(x)

def show_workers(trainer):
    print(*[worker.process.pid for worker in updater._workers._workers], flush=True)

data = [(np.ones(4, np.float32), np.int32(1))] * 8
its = [iterators.SerialIterator(data, 2) for _ in range(2)]
if how == "feeders":
    its = [iterators.MultiprocessIterator(data, 2, n_processes=1) for _ in range(2)]
model = L.Classifier(Net())
updater = MultiprocessParallelUpdater(its, optimizers.SGD().setup(model), devices=(-1, -1))
if sys.argv[2] == "trainer":
    trainer = training.Trainer(updater, (3, "iteration"), out=sys.argv[3])
    trainer.extend(show_workers)
    trainer.run()
else:
    updater.update()
    show_workers(None)
    if how != "leave":
        updater.update()
"""


class Main:
    """A script that runs.

    Attributes:
        child: its process, which leads a process group.
        workers: their pids.
    """

    def __init__(self, mpi: Any, script: Path, how: str, through: str, **variables: str) -> None:
        script.write_text(MAIN)
        self._mpi, self.mark = mpi, uuid.uuid4().hex
        self.child = subprocess.Popen(
            [sys.executable, script, how, through, str(script.parent / "out")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=mpi.environment(self.mark, variables),
            start_new_session=True,
        )
        assert self.child.stdout is not None
        self.workers = [int(pid) for pid in self.child.stdout.readline().split()]

    def end(self) -> tuple[int, str]:
        """Its code and what it has printed as errors; nothing may be left of it."""
        _, errors = self.child.communicate(timeout=_SOON_S)
        assert self.workers, errors
        assert self._mpi.wait_until_gone(self.mark, _SOON_S) == []
        return self.child.returncode, errors


@pytest.fixture
def start(mpi: Any, tmp_path: Path) -> Iterator[Any]:
    made: list[Main] = []

    def begin(how: str, through: str = "loop", **variables: str) -> Main:
        made.append(Main(mpi, tmp_path / "train.py", how, through, **variables))
        return made[-1]

    yield begin
    for main in made:
        mpi.kill_marked(main.mark)
        main.child.communicate(timeout=10)


@pytest.mark.parametrize("through", ["loop", "trainer"])
def test_a_worker_that_is_stopped_ends_the_training(start: Any, through: str) -> None:
    began = time.monotonic()
    main = start("stopped", through, DISTRAIN_COLLECTIVE_TIMEOUT="1.5")
    code, errors = main.end()
    assert code == 1
    cause = rf"WorkerError: worker 1 \(device -1, pid {main.workers[0]}\) has been stopped \(SIGSTOP\) for \d+ s; see "
    assert re.match(cause, errors.splitlines()[-1].rpartition("distrain.errors.")[2]), errors
    assert time.monotonic() - began < 20


def test_a_worker_that_goes_on_in_time_is_waited_for(start: Any) -> None:
    main = start("stopped", DISTRAIN_COLLECTIVE_TIMEOUT="20")
    end = time.monotonic() + _SOON_S
    while state(main.workers[0]) != "T" and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(1.2)  # seen to be stopped
    os.kill(main.workers[0], signal.SIGCONT)
    assert main.end() == (0, "")


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_worker_that_hangs_is_named_shows_where_it_is_and_ends_the_training(start: Any) -> None:
    main = start("hang", DISTRAIN_COLLECTIVE_TIMEOUT="0.8")  # ten times of it must do for the start, too
    code, errors = main.end()
    assert code == 1
    who = rf"worker 1 \(device -1, pid {main.workers[0]}\)"
    assert re.search(rf"UserWarning: {who} takes longer than 0.8 s. This is not the end yet", errors)
    assert re.search(r'File ".*train.py", line \d+ in forward', errors)  # the worker's stack
    assert re.match(rf"distrain.errors.WorkerError: {who} has not answered for \d+ s", errors.splitlines()[-1])


ENDS = {
    "killed": (signal.SIGKILL, -signal.SIGKILL),
    "terminated": (signal.SIGTERM, -signal.SIGTERM),
    "hung up": (signal.SIGHUP, -signal.SIGHUP),
}


@pytest.mark.parametrize("end", ENDS)
def test_workers_that_are_at_work_end_with_the_main_process(start: Any, end: str) -> None:
    main = start("wait")
    number, expected = ENDS[end]
    time.sleep(0.2)
    main.child.send_signal(number)
    assert main.end() == (expected, "")


@pytest.mark.parametrize("through", ["loop", "trainer"])
def test_ctrl_c_ends_all(start: Any, through: str) -> None:
    main = start("wait", through)
    time.sleep(0.2)
    os.killpg(main.child.pid, signal.SIGINT)  # as a terminal does: all of them get it
    code, errors = main.end()
    assert code == -signal.SIGINT
    assert errors.splitlines()[-1] == "KeyboardInterrupt"


@pytest.mark.parametrize(
    ("how", "expected", "last"),
    [("leave", 0, ""), ("sys.exit", 4, ""), ("os._exit", 3, ""), ("exception", 1, "ValueError: the cause")],
)
def test_workers_end_however_the_script_ends(start: Any, how: str, expected: int, last: str) -> None:
    code, errors = start(how).end()
    assert code == expected
    assert errors.strip().rpartition("\n")[2] == last


def test_a_stopped_worker_ends_with_the_main_process(start: Any) -> None:
    main = start("wait")
    os.kill(main.workers[0], signal.SIGSTOP)
    main.child.kill()
    assert main.end()[0] == -signal.SIGKILL


def test_feeders_end_with_their_worker(start: Any) -> None:
    main = start("feeders", "trainer")
    os.kill(main.workers[0], signal.SIGKILL)
    code, errors = main.end()
    assert code == 1
    assert errors.splitlines()[-1].endswith("was killed by SIGKILL")
