from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

LAUNCH = ["-m", "distrain_launch"]

SHOW = """
import os, sys
from distrain import comm
world = comm.world()
told = [os.environ[name] for name in ("DISTRAIN_SEED", "DISTRAIN_REPRODUCIBLE") if name in os.environ]
shown = world.gather_obj((world.rank, sys.argv[1:], " ".join(told)))
if shown:
    print(shown, flush=True)
sys.exit(int(os.environ.get("END_WITH", 0)))
"""


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "a folder with spaces" / "train it.py"
    path.parent.mkdir()
    path.write_text(SHOW)
    return path


@pytest.mark.mpi
def test_run_passes_arguments_seed_and_exit_code(mpi: Any, mpi_python: str, script: Path, ranks: int) -> None:
    options = ["--unknown", "-n", "7", "--seed", "x", "a b"]
    command = [mpi_python, *LAUNCH, "run", "-n", str(ranks), "--seed", "12", str(script), *options]
    result = mpi.run(command).check()
    assert result.stdout.strip() == str([(rank, options, "12") for rank in range(ranks)])
    command.insert(command.index("--seed"), "--reproducible")
    shown = mpi.run(command, env={"END_WITH": "0"}).check().stdout
    assert shown.strip() == str([(rank, options, "12 1") for rank in range(ranks)])
    assert mpi.run(command, env={"END_WITH": "4"}).returncode == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nowhere.py"], ["nowhere.py does not exist", "looked in"]),
        (["run", "."], [". is not a file"]),
        (["run", "-n", "0", __file__], ["-n 0", "at least 1"]),
        (["run", "--seed", "-1", __file__], ["--seed -1"]),
        (["run", "-n", "2", "--mpiexec", "/nowhere/mpiexec", __file__], ["/nowhere/mpiexec", "--mpiexec"]),
        (["run", "-n", "2", "--mpiexec", "/bin/echo", __file__], ["/bin/echo is of an unknown make"]),
        (["run", "-n", "two", __file__], ["invalid int value"]),
        ([], ["command"]),
    ],
)
def test_bad_requests_are_refused_at_once(mpi: Any, arguments: list[str], words: list[str]) -> None:
    result = mpi.run([sys.executable, *LAUNCH, *arguments])
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    for word in words:
        assert word in result.stderr


def test_a_launcher_inside_a_job_is_refused(mpi: Any) -> None:
    environ = {"PMI_RANK": "0", "PMI_SIZE": "2"}
    result = mpi.run([sys.executable, *LAUNCH, "run", "-n", "2", __file__], env=environ)
    assert result.returncode == 2
    assert "one of several" in result.stderr


def test_version(mpi: Any) -> None:
    assert mpi.run([sys.executable, *LAUNCH, "--version"]).check().stdout.startswith("distrain ")


def test_the_launcher_does_not_touch_mpi(mpi: Any) -> None:
    mpi.run([sys.executable, "-c", "import sys, distrain_launch.cli; assert 'mpi4py' not in sys.modules"]).check()


WAIT = """
import sys, time
import numpy as np
from distrain import comm
world = comm.world()
world.barrier()
if world.rank == 0:
    open(sys.argv[1], "w").close()
    time.sleep(60)
world.allreduce(np.ones(1))
"""


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_the_end_of_the_launcher_is_the_end_of_the_job(
    mpi: Any, mpi_python: str, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    script, ready, mark = tmp_path / "wait.py", tmp_path / "ready", uuid.uuid4().hex
    script.write_text(WAIT)
    launcher = subprocess.Popen(
        [mpi_python, *LAUNCH, "run", "-n", "2", str(script), str(ready)],
        env=mpi.environment(mark),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 30
        while not ready.exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert ready.exists(), "the ranks did not start"
        assert len(mpi.marked(mark)) >= 4  # launcher, mpiexec, two ranks
        os.kill(launcher.pid, number)
        assert launcher.wait(20) == code
        assert mpi.wait_until_gone(mark, 10) == []
    finally:
        mpi.kill_marked(mark)
        launcher.wait(10)
