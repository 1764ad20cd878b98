from __future__ import annotations

import sys
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
        (["run", "-n", "2", "--ranks", "0,x", __file__], ["--ranks 0,x", "such as 0,3"]),
        (["run", "-n", "2", "--ranks", "2", __file__], ["--ranks 2", "there are 2 ranks"]),
        (["run", "-n", "2", "--shutdown-timeout", "-1", __file__], ["--shutdown-timeout -1"]),
        (["run", "-n", "2", "--log-dir", __file__, __file__], ["--log-dir", "can be written to"]),
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
