"""Signals to jobs of a real Slurm, by all ways that they come: the training saves itself, goes back, and goes on.

What is signalled may be the tasks of a job's steps (`scancel --signal`, `--signal=USR2@…`, preemption), its batch shell
(`--batch`, `B:`), srun, or `distrain run`.
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
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.mpi, pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[2]
SUITE = str(ROOT / "tests" / "launch" / "restart_suite.py")
LAST = "600"  # a minute of the first attempt, some seconds of the second
LIMIT_S = 90.0
KIND = "pmix" if "openmpi" in sys.executable else "pmi2"
VARIABLES = {
    "CUDA_VISIBLE_DEVICES": "",
    **{f"{name}_ALLOW_RUN_AS_ROOT{end}": "1" for name in ("OMPI", "PRTE") for end in ("", "_CONFIRM")},
}

# MPI starts before much else is in memory, for the reason in docs/mpi.md ("invalid client request").
FIRST = """
import runpy, sys
from distrain import comm
comm.world()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""

# As in docs/failures.md: `distrain run` in a batch script.
SCRIPT = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --requeue --open-mode=append --output=job.log {options}
export DISTRAIN_JOB=slurm-$SLURM_JOB_ID DISTRAIN_RESTART=${{SLURM_RESTART_COUNT:-0}}
trap 'kill -USR1 $training' USR1
trap 'kill -USR2 $training' USR2
trap 'kill -TERM $training' TERM
{python} -m distrain_launch run --max-restarts 1 {suite} &
training=$!
wait $training || code=$?
while [ "${{code:-0}}" -gt 128 ] && kill -0 $training 2> /dev/null; do wait $training; code=$?; done
if [ "${{code:-0}}" -eq 75 ]; then scontrol requeue $SLURM_JOB_ID; fi
exit ${{code:-0}}
"""


class Batch:
    """A submitted job whose training has begun."""

    def __init__(self, cluster: Any, mpi: Any, mark: str, folder: Path) -> None:
        self.cluster, self.mpi, self.mark, self.folder = cluster, mpi, mark, folder
        self.environ = mpi.environment(mark, {**cluster.environ, **VARIABLES})
        self.number = ""

    def ask(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=LIMIT_S
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout

    def submit(self, script: str) -> None:
        self.number = self.ask("sbatch", "--parsable", script).strip()

    def script(self) -> str:
        path = self.folder / "first.py"
        path.write_text(FIRST)
        return str(path)

    def begun(self) -> list[int]:
        path = self.folder / "begun"
        return list(map(int, path.read_text().split())) if path.exists() else []

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> None:
        end = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < end, f"no {what}\n{self.log()}"
            time.sleep(0.1)

    def log(self) -> str:
        return "\n".join(path.read_text() for path in self.folder.glob("*.log"))

    def train(self) -> None:
        """Waits until the first attempt has made some steps."""
        self.wait(lambda: list(self.folder.glob("snapshot_iter_[1-9]*")) or self._is_over(), "snapshot")
        assert self.begun(), self.log()

    def pids(self, name: str) -> list[int]:
        """Processes of the job that are a program or a module of that name."""
        found = {pid: Path(f"/proc/{pid}/cmdline").read_text().split("\0") for pid in self.mpi.marked(self.mark)}
        return [pid for pid, words in found.items() if name in (Path(words[0]).name, *words[2:3])]

    def end(self) -> str:
        """The state in which the job is over; nothing is left then."""
        self.wait(self._is_over, "end")
        assert self.mpi.wait_until_gone(self.mark, 20.0) == []
        found = re.search(r"JobState=(\w+)", self.ask("scontrol", "show", "job", self.number))
        assert found is not None
        return found[1]

    def _is_over(self) -> bool:
        shown = self.ask("scontrol", "show", "job", self.number)
        if "JobState=PENDING Reason=BeginTime" in shown:  # Slurm lets what was put back wait for two minutes
            time.sleep(3)  # for its daemons, which may still be about the step of that number
            self.ask("scontrol", "update", f"JobId={self.number}", "StartTime=now")
        return self.number not in self.cluster.jobs()

    def check_that_it_went_on(self, after: str, stopped_by: str) -> None:
        """The first attempt stopped with a snapshot, and the second one went on from it to the end."""
        assert self.end() == "COMPLETED", self.log()
        first, second = self.begun()
        assert first == 0 < second
        log = self.log()
        assert f"stopped at iteration {second} by {stopped_by}; " in log
        assert f"start 2 (1 after {after}): continues from " in log
        starts = json.loads((self.folder / "run.json").read_text())["starts"]
        assert [start["after"] for start in starts] == [None, after.removeprefix("a ").removeprefix("the ")]
        assert "ended by" not in log
        assert "Traceback" not in log


@pytest.fixture
def batch(cluster: Any, mpi: Any, tmp_path: Path) -> Iterator[Batch]:
    job = Batch(cluster, mpi, uuid.uuid4().hex, tmp_path)
    try:
        yield job
    finally:
        if job.number in cluster.jobs():
            job.ask("scancel", "--full", "--signal=KILL", job.number)
            job.ask("scancel", job.number)
            job.wait(lambda: job.number not in cluster.jobs(), "end", 30.0)
        mpi.kill_marked(job.mark)


def generated(job: Batch, *options: str) -> None:
    """Submits what `distrain submit --requeue` writes."""
    size = ["--nodes", "2", "--ranks-per-node", "1"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "launch")])
    more = ["--env", f"PYTHONPATH={path}", "--env", "CUDA_VISIBLE_DEVICES="]
    training = [job.script(), SUITE, str(job.folder), LAST, "slow"]
    command = [sys.executable, "-m", "distrain_launch", "submit", "--slurm", *size, *options, *more, "--dry-run"]
    (job.folder / "job.sh").write_text(job.ask(*command, *training))
    job.submit("job.sh")
    job.train()


def own(job: Batch, options: str = "", last: str = LAST) -> None:
    """Submits a script that calls `distrain run`."""
    text = SCRIPT.format(
        options=options, python=sys.executable, suite=f"{job.script()} {SUITE} {job.folder} {last} slow"
    )
    (job.folder / "job.sh").write_text(text)
    job.submit("job.sh")
    job.train()


REQUEUE = ["--requeue", "60", "--time", "0:05:00"]
WAYS = {"srun": [*REQUEUE, "--mpi", KIND], "mpiexec": REQUEUE, "distrain run": []}


def start(job: Batch, way: str) -> None:
    own(job) if way == "distrain run" else generated(job, *WAYS[way])


@pytest.mark.parametrize("way", ["srun", "distrain run"])
@pytest.mark.parametrize(
    ("name", "after"), [("USR1", "the time limit"), ("USR2", "the time limit"), ("TERM", "a preemption")]
)
def test_a_signal_to_the_steps(batch: Batch, way: str, name: str, after: str) -> None:
    start(batch, way)
    batch.ask("scancel", f"--signal={name}", batch.number)
    batch.check_that_it_went_on(after, f"SIG{name}")


@pytest.mark.parametrize("way", ["srun", "distrain run"])
def test_an_interrupt_of_the_steps_ends_the_job(batch: Batch, way: str) -> None:
    start(batch, way)
    batch.ask("scancel", "--signal=INT", batch.number)
    assert batch.end() == "FAILED"
    assert batch.begun() == [0]
    if way == "distrain run":
        *_, report = batch.log().split("\nrank ")
        assert "KeyboardInterrupt" in report
        assert report.endswith("distrain: not started again: somebody has interrupted a rank (SIGINT).\n")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["USR1", "USR2", "TERM"])
def test_a_signal_to_the_batch_shell(batch: Batch, way: str, name: str) -> None:
    start(batch, way)
    batch.ask("scancel", "--batch", f"--signal={name}", batch.number)
    heard = name if way == "distrain run" else "USR1"  # which every mpiexec passes on
    batch.check_that_it_went_on("a preemption" if heard == "TERM" else "the time limit", f"SIG{heard}")


@pytest.mark.parametrize("way", ["srun", "distrain run"])
@pytest.mark.parametrize("name", ["USR1", "USR2"])
def test_a_signal_to_srun(batch: Batch, way: str, name: str) -> None:
    start(batch, way)
    for pid in batch.pids("srun"):
        os.kill(pid, signal.Signals[f"SIG{name}"])
    batch.check_that_it_went_on("the time limit", f"SIG{name}")


def test_srun_that_is_told_to_end_takes_the_ranks_with_it(batch: Batch) -> None:
    """It kills them at SIGTERM, which is a failure like others, and followed by a restart."""
    own(batch)
    for pid in batch.pids("srun"):
        os.kill(pid, signal.SIGTERM)
    assert batch.end() == "COMPLETED", batch.log()
    assert "start 2 (1 after a failure): continues from " in batch.log()


@pytest.mark.parametrize("name", ["USR1", "USR2", "TERM"])
def test_a_signal_to_distrain_run(batch: Batch, name: str) -> None:
    own(batch)
    (launcher,) = batch.pids("distrain_launch")
    os.kill(launcher, signal.Signals[f"SIG{name}"])
    batch.check_that_it_went_on("a preemption" if name == "TERM" else "the time limit", f"SIG{name}")


def test_a_job_that_is_suspended_goes_on(batch: Batch) -> None:
    batch.environ["DISTRAIN_COLLECTIVE_TIMEOUT"] = "1"
    own(batch, last="100")
    batch.ask("scontrol", "suspend", batch.number)
    batch.wait(lambda: "SUSPENDED" in batch.ask("scontrol", "show", "job", batch.number), "suspension")
    time.sleep(12)  # a collective that lasts ten times the limit would end the job
    batch.ask("scontrol", "resume", batch.number)
    assert batch.end() == "COMPLETED", batch.log()
    assert batch.begun() == [0]
    assert "wait" not in batch.log()


@pytest.mark.parametrize(
    ("way", "directive", "name"),
    [
        ("srun", "", "USR1"),
        ("srun", "--signal=USR2@45", "USR1"),  # to the batch shell as well, as the signal before; it passes USR1 on
        ("distrain run", "--signal=USR2@45", "USR2"),
    ],
)
def test_the_time_limit_is_near(batch: Batch, way: str, directive: str, name: str) -> None:
    """Slurm counts in minutes, so the signal comes a quarter of a minute after the start, or earlier."""
    if way == "distrain run":
        own(batch, f"--time=1 {directive}")
    else:
        more = [f"--directive={directive}"] if directive else []
        generated(batch, "--requeue", "45", "--time", "0:01:00", "--mpi", KIND, *more)
    batch.check_that_it_went_on("the time limit", f"SIG{name}")
