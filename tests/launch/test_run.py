from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

LAUNCH = [sys.executable, "-m", "distrain_launch", "run"]

SHOW = """
import json, os, sys
from distrain.env import rank_info
names = ["CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "DISTRAIN_SEED", "DISTRAIN_TERMINAL"]
print(rank_info().rank, json.dumps({name: os.environ.get(name) for name in names}), flush=True)
print("error of", rank_info().rank, file=sys.stderr)
"""
UNLIMITED = {"OMP_NUM_THREADS": "", "OPENBLAS_NUM_THREADS": "", "MKL_NUM_THREADS": ""}


@pytest.fixture
def script(tmp_path: Path) -> str:
    path = tmp_path / "show.py"
    path.write_text(SHOW)
    return str(path)


def reports(stdout: str) -> list[dict[str, str | None]]:
    """What each rank found, in the order of the ranks."""
    lines = [line.partition("] ")[2] or line for line in stdout.splitlines()]
    found = {int(rank): json.loads(rest) for rank, _, rest in (line.partition(" ") for line in lines)}
    return [found[rank] for rank in range(len(found))]


@pytest.mark.mpi
def test_the_plan_reaches_the_ranks(mpi: Any, mpi_python: str, script: str) -> None:
    command = [mpi_python, *LAUNCH[1:], "-n", "2", "--seed", "5", script]
    found = reports(mpi.run(command, env={**UNLIMITED, "CUDA_VISIBLE_DEVICES": "GPU-a,MIG-b"}).check().stdout)
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))
    assert [rank["CUDA_VISIBLE_DEVICES"] for rank in found] == ["GPU-a", "MIG-b"]
    for rank in found:
        assert rank["OMP_NUM_THREADS"] == rank["MKL_NUM_THREADS"] == share
        assert rank["DISTRAIN_SEED"] == "5"
        assert rank["DISTRAIN_TERMINAL"] is None


@pytest.mark.mpi
def test_threads_and_gpus_that_the_user_keeps(mpi: Any, script: str) -> None:
    environ = {**UNLIMITED, "OMP_NUM_THREADS": "3", "CUDA_VISIBLE_DEVICES": "0"}
    found = reports(mpi.run([*LAUNCH, "-n", "2", "--all-gpus", script], env=environ).check().stdout)
    assert [rank["OMP_NUM_THREADS"] for rank in found] == ["3", "3"]
    assert [rank["CUDA_VISIBLE_DEVICES"] for rank in found] == ["0", "0"]


@pytest.mark.mpi
@pytest.mark.parametrize("visible", ["", "0,1,2"])
def test_without_a_number_it_chooses_and_says_why(mpi: Any, script: str, visible: str) -> None:
    done = mpi.run([*LAUNCH, script], env={"CUDA_VISIBLE_DEVICES": visible}).check()
    ranks = 3 if visible else min(8, len(os.sched_getaffinity(0)))
    assert len(reports(done.stdout)) == ranks
    reason = "one for each GPU (0, 1, 2)" if visible else "there is no GPU"
    assert f"distrain: {ranks} rank" in done.stderr.splitlines()[0]
    assert reason in done.stderr.splitlines()[0]


WITHOUT_MPI4PY = """
import importlib.util, sys
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *package: None if name == "mpi4py" else find(name, *package)
from distrain_launch import main
sys.exit(main())
"""


def test_without_mpi4py_it_chooses_one(mpi: Any, script: str) -> None:
    command, environ = [sys.executable, "-c", WITHOUT_MPI4PY, "run"], {"CUDA_VISIBLE_DEVICES": "0,1"}
    done = mpi.run([*command, script], env=environ).check()
    assert "distrain: 1 rank: mpi4py is not installed" in done.stderr
    assert reports(done.stdout)[0]["CUDA_VISIBLE_DEVICES"] == "0,1"
    done = mpi.run([*command, "-n", "2", script], env=environ)
    assert done.returncode == 2
    assert "2 ranks need mpi4py" in done.stderr


@pytest.mark.mpi
def test_each_rank_has_its_own_file(mpi: Any, mpi_python: str, tmp_path: Path, script: str) -> None:
    folder = tmp_path / "a" / "log dir"
    folder.mkdir(parents=True)
    (folder / "rank-7.log").write_text("of an earlier run")
    (folder / "mine.log").write_text("the user's")
    mpi.run([mpi_python, *LAUNCH[1:], "-n", "2", "--quiet", "--log-dir", str(folder), script]).check()
    assert sorted(path.name for path in folder.iterdir()) == ["mine.log", "rank-0.log", "rank-1.log"]
    for rank in range(2):
        lines = (folder / f"rank-{rank}.log").read_text().splitlines()
        assert sorted(line[:10] for line in lines) == sorted([f'{rank} {{"CUDA_V', f"error of {rank}"])


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("options", "shown"),
    [([], {0, 1, 2}), (["--ranks", "all"], {0, 1, 2}), (["--ranks", "0,2"], {0, 2}), (["--quiet"], set())],
)
def test_whose_output_is_shown(mpi: Any, script: str, options: list[str], shown: set[int]) -> None:
    done = mpi.run([*LAUNCH, "-n", "3", *options, script], env={"CUDA_VISIBLE_DEVICES": ""}).check()
    host = os.uname().nodename.partition(".")[0]
    for text, stream in (("", done.stdout), ("error of ", done.stderr)):
        lines = stream.splitlines()
        assert len(lines) == len(shown)
        for rank in range(3):
            prefix = f"[{host}:{rank}] " if rank else ""
            assert any(line.startswith(f"{prefix}{text}{rank}") for line in lines) == (rank in shown)


@pytest.mark.mpi
def test_an_mpiexec_that_starts_nothing(mpi: Any, tmp_path: Path, script: str) -> None:
    broken = tmp_path / "mpiexec"
    broken.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo "HYDRA build details:" && exit\necho no slots >&2\nexit 7\n'
    )
    broken.chmod(0o755)
    done = mpi.run([*LAUNCH, "-n", "2", "--mpiexec", str(broken), script], env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert done.stderr.startswith("no slots\n")
    assert "ended with exit code 7 when 0 of 2 ranks had started" in done.stderr
    assert "-n 2" in done.stderr.splitlines()[-1]


@pytest.mark.mpi
def test_an_mpiexec_whose_ranks_know_nothing_of_each_other(mpi: Any, tmp_path: Path, script: str) -> None:
    strange = tmp_path / "mpiexec"
    strange.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "MPICH" && exit\nshift 2\n"$@" &\n"$@" &\nwait\n')
    strange.chmod(0o755)
    done = mpi.run([*LAUNCH, "-n", "2", "--mpiexec", str(strange), script], env={"CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert done.stdout == ""
    assert "was to start 2 ranks, but a process of it takes itself for rank 0 of 1" in done.stderr


def test_one_rank_is_looked_after_if_its_output_goes_elsewhere(mpi: Any, tmp_path: Path) -> None:
    script = tmp_path / "fail.py"
    script.write_text("import os\nprint('working')\nos.kill(os.getpid(), 11)")
    done = mpi.run([*LAUNCH, "-n", "1", "--quiet", "--log-dir", str(tmp_path), str(script)])
    assert done.returncode == 139
    assert done.stdout == ""
    assert "rank 0 of 1 on " in done.stderr
    assert "was ended by SIGSEGV (signal 11)" in done.stderr
    assert 'fail.py", line 3 in <module>' in done.stderr  # where it was
    assert (tmp_path / "rank-0.log").read_text().startswith("working\n")


@pytest.mark.mpi
def test_temporary_folders(mpi: Any, tmp_path: Path, script: str) -> None:
    """One with a name too long for a socket, and none that can be written to."""
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    done = mpi.run([*LAUNCH, "-n", "2", script], env={"CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(deep)}).check()
    assert len(reports(done.stdout)) == 2
    assert list(deep.iterdir()) == []
    full = ["bash", "-c", f"ulimit -f 0; exec {' '.join(LAUNCH)} -n 2 {script}"]
    done = mpi.run(full, env={"PYTHONDONTWRITEBYTECODE": "1", "CUDA_VISIBLE_DEVICES": ""})
    assert done.returncode == 2
    assert "distrain: no folder for temporary files: " in done.stderr
    assert "Set TMPDIR" in done.stderr


@pytest.mark.mpi
def test_who_could_not_send_an_object_is_named_and_not_who_waited_for_it(mpi: Any, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom distrain import comm\nworld = comm.world()\ntry:\n"
        "    world.bcast_obj((lambda: None) if world.rank == 0 else None)\n"
        "finally:\n    time.sleep(0.4 * (world.rank == 0))  # the others fail before\n"
    )
    done = mpi.run([*LAUNCH, "-n", "2", str(script)])
    assert done.returncode == 1
    *_, report = done.stderr.split("\nrank ")
    assert report.startswith("0 of 2 on ")
    assert "pickle" in report
