"""Jobs of a real Slurm with two nodes, both on this machine.

They are skipped, with the reason, where Slurm is not installed or the user is not root. CI has no Slurm; by hand:
`apt-get install slurm-wlm munge libpmix2`, then `pytest -m slurm -rs`. Slurm's plugin for PMIx looks for `libpmix.so`,
which Debian has in libpmix-dev; without it the tests of Open MPI through srun are skipped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slurm, pytest.mark.mpi]
ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "train_mnist.py"
LAUNCH = ["-m", "distrain_launch"]
TRAINING = [str(EXAMPLE), "--epoch", "2", "--out", "out"]
LIMIT_S = 90.0
ON_CPU = {"CUDA_VISIBLE_DEVICES": ""}

# Each rank says that it is ready by a file, and waits to be ended.
WAITING = """
import os, pathlib, sys, time
from distrain import comm
world = comm.world()
assert "DISTRAIN_LINK_SECRET" not in os.environ
path = pathlib.Path(sys.argv[1]) / f"ready-{world.rank}"
path.with_suffix(".new").write_text(f"{os.getpid()} {os.environ.get('SLURMD_NODENAME')}")
path.with_suffix(".new").rename(path)
end = time.monotonic() + 100
while time.monotonic() < end:
    time.sleep(0.05)
"""


def kind_of(python: str) -> str:
    """The kind of MPI of srun that an interpreter's MPI speaks."""
    return "pmix" if "openmpi" in python else "pmi2"


@pytest.fixture
def kind(cluster: Any, mpi_python: str) -> str:
    kind = kind_of(mpi_python)
    done = subprocess.run(
        ["srun", "-N2", "-n2", f"--mpi={kind}", "true"],
        env={**os.environ, **cluster.environ},
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
    )
    if done.returncode:
        pytest.skip(f"srun --mpi={kind} does not work here: {done.stderr.strip().splitlines()[0]}")
    return kind


@pytest.fixture
def inside(cluster: Any, mpi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Runs a command inside an allocation of two nodes with two tasks on each, or as the options say."""
    monkeypatch.chdir(tmp_path)

    def run(*command: str, options: tuple[str, ...] = ("--nodes=2", "--ntasks-per-node=2")) -> Any:
        return mpi.run(["salloc", "-Q", *options, *command], timeout=LIMIT_S, env={**cluster.environ, **ON_CPU})

    return run


def check_training(folder: Path, ranks: int) -> dict[str, Any]:
    """Whether it has learned, on so many ranks; returns what it says of its world."""
    entries = json.loads((folder / "out" / "log").read_text())
    assert [entry["epoch"] for entry in entries] == [1, 2]
    assert entries[-1]["main/loss"] < entries[0]["main/loss"]
    (start,) = json.loads((folder / "out" / "run.json").read_text())["starts"]
    assert start["world"]["ranks"] == ranks
    world: dict[str, Any] = start["world"]
    return world


def test_a_submitted_script(cluster: Any, mpi: Any, mpi_python: str, tmp_path: Path) -> None:
    submit(cluster, mpi, mpi_python, tmp_path)


def test_a_submitted_script_with_srun(cluster: Any, mpi: Any, mpi_python: str, kind: str, tmp_path: Path) -> None:
    submit(cluster, mpi, mpi_python, tmp_path, "--mpi", kind)


def submit(cluster: Any, mpi: Any, python: str, folder: Path, *options: str) -> None:
    size = ["--nodes", "2", "--ranks-per-node", "2", "--time", "0:05:00"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "launch")])
    variables = {f"{name}_ALLOW_RUN_AS_ROOT{end}": "1" for name in ("OMPI", "PRTE") for end in ("", "_CONFIRM")}
    words = [word for item in ({"PYTHONPATH": path} | ON_CPU).items() for word in ("--env", "=".join(item))]
    command = [python, *LAUNCH, "submit", "--slurm", *size, *options, *words, "--dry-run", *TRAINING]
    environ = {**mpi.environment(""), **variables}
    written = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, timeout=LIMIT_S)
    assert written.returncode == 0, written.stderr
    (folder / "job.sh").write_text(written.stdout)
    here = os.getcwd()
    os.chdir(folder)
    try:
        done = mpi.run(["sbatch", "--wait", "job.sh"], timeout=LIMIT_S, env={**cluster.environ, **variables})
    finally:
        os.chdir(here)
    (log,) = folder.glob("train-mnist-*.log")
    assert done.returncode == 0, done.stdout + done.stderr + log.read_text()
    check_training(folder, 4)
    assert cluster.jobs() == []


def test_run_takes_srun(inside: Any, mpi_python: str, kind: str, tmp_path: Path) -> None:
    three_a_node = ("--nodes=2", "--ntasks-per-node=3")
    done = inside(mpi_python, *LAUNCH, "run", *TRAINING, options=three_a_node).check()
    assert "distrain: 6 ranks on 2 nodes of Slurm job" in done.stderr
    assert "as many as the job has tasks" in done.stderr
    assert f"started by srun --mpi={kind}" in done.stderr
    assert check_training(tmp_path, 6)["launcher"] == ("slurm" if kind == "pmix" else "hydra")


def test_run_takes_mpiexec_if_told_to(inside: Any, mpi_python: str, tmp_path: Path) -> None:
    done = inside(mpi_python, *LAUNCH, "run", "--launcher", "mpiexec", *TRAINING).check()
    assert f"started by {Path(mpi_python).parent}/mpiexec" in done.stderr
    check_training(tmp_path, 4)


def test_srun_without_distrain_run(inside: Any, mpi: Any, mpi_python: str, kind: str, tmp_path: Path) -> None:
    inside("srun", f"--mpi={kind}", mpi_python, *TRAINING).check()
    check_training(tmp_path, 4)


@pytest.mark.parametrize("options", [["-n", "2"], ["-n", "2", "--launcher", "srun"]], ids=["mpiexec", "srun"])
def test_one_node(inside: Any, mpi_python: str, kind: str, tmp_path: Path, options: list[str]) -> None:
    done = inside(mpi_python, *LAUNCH, "run", *options, *TRAINING, options=("--nodes=1", "--ntasks=2")).check()
    assert ("started by srun" in done.stderr) == ("srun" in options)
    check_training(tmp_path, 2)


def test_more_ranks_than_cores_in_an_interactive_step(inside: Any, tmp_path: Path) -> None:
    script = tmp_path / "count.py"
    script.write_text("from distrain import comm\nprint('size', comm.world().size)\n")
    run = [sys.executable, *LAUNCH, "run", "-n", "9"]
    step = ["srun", "--nodes=1", "--ntasks=1", *run]
    done = inside(*step, str(script), options=("--nodes=2",))
    assert done.returncode == 2
    assert re.search(r"-n 9: Slurm job \d+ has \d processors, which is too few for 9 ranks\.", done.stderr)
    assert "give --oversubscribe" in done.stderr
    done = inside(*step, "--oversubscribe", str(script), options=("--nodes=2",)).check()
    assert done.stdout.count("size 9") == 9


def test_srun_where_it_does_not_fit(inside: Any, tmp_path: Path) -> None:
    script = tmp_path / "empty.py"
    script.write_text("")
    poor = tmp_path / "bin" / "srun"  # Slurm's own, but for what it says of its plugins
    poor.parent.mkdir()
    poor.write_text(f'#!/bin/sh\n[ "$1" = --mpi=list ] && echo none && exit\nexec {shutil.which("srun")} "$@"\n')
    poor.chmod(0o755)
    command = ["env", f"PATH={poor.parent}:{os.environ['PATH']}", sys.executable, *LAUNCH, "run"]
    done = inside(*command, "--launcher", "srun", str(script))
    assert done.returncode == 2
    assert "srun cannot start the ranks: it has none, but mpi4py loads" in done.stderr
    done = inside(*command[:-1], "doctor")
    assert "; srun cannot start the ranks: it has none, but mpi4py loads" in done.stdout
    done = inside(*command, str(script)).check()
    assert "mpiexec, because srun cannot start the ranks: it has none" in done.stderr
    done = inside("env", "-u", "SLURM_JOB_ID", sys.executable, *LAUNCH, "run", "--launcher", "srun", str(script))
    assert (done.returncode, "this is no allocation of Slurm" in done.stderr) == (2, True)


def test_doctor_says_how_ranks_start(inside: Any, mpi_python: str, kind: str) -> None:
    done = inside(mpi_python, *LAUNCH, "doctor")
    assert re.search(
        rf"^ok +slurm +job \d+ with 2 nodes; srun --mpi={kind} fits mpi4py's MPI$", done.stdout, re.MULTILINE
    )


class Running:
    """A job of two ranks, one on each node, that waits to be ended."""

    def __init__(self, mpi: Any, mark: str, child: subprocess.Popen[str], folder: Path) -> None:
        self.mpi, self.mark, self.child, self.folder = mpi, mark, child, folder

    def ready(self) -> list[Path]:
        return sorted(self.folder.glob("ready-[01]"))

    def pid(self, rank: int) -> int:
        return int(self.ready()[rank].read_text().split()[0])

    def launcher(self) -> int:
        """The process of `distrain run`."""
        for pid in self.mpi.marked(self.mark):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if b"distrain_launch" in words and b"salloc" not in words[0]:
                return int(pid)
        raise AssertionError("no launcher")

    def end(self) -> tuple[int, str]:
        """Exit code and standard error; everything is gone then."""
        _, stderr = self.child.communicate(timeout=LIMIT_S)
        assert self.mpi.wait_until_gone(self.mark, 20.0) == []
        return self.child.returncode, stderr


@contextmanager
def running(cluster: Any, mpi: Any, python: str, folder: Path, *options: str) -> Iterator[Running]:
    script, mark = folder / "script.py", uuid.uuid4().hex
    script.write_text(WAITING)
    run = [python, *LAUNCH, "run", "-n", "2", str(script), str(folder)]
    child = subprocess.Popen(
        ["salloc", "-Q", "--nodes=2", "--ntasks-per-node=1", "--job-name=waiting", *options, *run],
        env={**mpi.environment(mark, {**cluster.environ, **ON_CPU})},
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


def test_a_killed_rank_is_named_with_its_node(
    cluster: Any, mpi: Any, mpi_python: str, kind: str, tmp_path: Path
) -> None:
    with running(cluster, mpi, mpi_python, tmp_path) as job:
        assert [file.read_text().split()[1] for file in job.ready()] == ["node0", "node1"]
        os.kill(job.pid(1), 9)
        code, stderr = job.end()
        assert code == 137
        assert f"rank 1 of 2 on node1 (pid {job.pid(1)}) was ended by SIGKILL" in stderr


def test_ranks_end_with_a_killed_launcher(cluster: Any, mpi: Any, mpi_python: str, kind: str, tmp_path: Path) -> None:
    with running(cluster, mpi, mpi_python, tmp_path) as job:
        os.kill(job.launcher(), 9)
        job.end()


def test_ranks_end_with_their_job(cluster: Any, mpi: Any, mpi_python: str, kind: str, tmp_path: Path) -> None:
    with running(cluster, mpi, mpi_python, tmp_path) as job:
        mpi.run(["scancel", "--name=waiting"], env=cluster.environ).check()
        code, _ = job.end()
        assert code != 0


def test_sigterm_to_the_launcher(cluster: Any, mpi: Any, mpi_python: str, kind: str, tmp_path: Path) -> None:
    with running(cluster, mpi, mpi_python, tmp_path) as job:
        os.kill(job.launcher(), 15)
        code, stderr = job.end()
        assert code == 143
        assert stderr.endswith("distrain: ended by SIGTERM.\n")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_time_limit(cluster: Any, mpi: Any, tmp_path: Path) -> None:
    """Slurm counts in minutes."""
    with running(cluster, mpi, sys.executable, tmp_path, "--time=1") as job:
        _, stderr = job.child.communicate(timeout=200)
        assert job.child.returncode != 0
        assert "time limit" in stderr.lower()
        assert mpi.wait_until_gone(job.mark, 20.0) == []
