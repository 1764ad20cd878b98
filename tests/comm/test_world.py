from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

REPORT = """
import json, os, sys
import numpy as np
from distrain import comm, rng
np.random.seed(int(os.environ.get("RANK_SEED", 0)) + int(os.environ.get("PMI_RANK", os.environ.get("PMIX_RANK", 0))))
seed = rng.seed()
world = comm.world()
np.ones((8, 8)) @ np.ones((8, 8))
from threadpoolctl import threadpool_info
threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
reports = world.gather_obj([world.rank, world.size, seed, threads])
if reports:
    print(json.dumps(reports))
"""
NO_LIMITS = {"OMP_NUM_THREADS": "", "OPENBLAS_NUM_THREADS": "", "MKL_NUM_THREADS": ""}


def test_one_process_touches_neither_mpi_nor_hooks_nor_threads(mpi: Any) -> None:
    script = """
import sys, threading
hooks = sys.excepthook, threading.excepthook, sys.exit
from distrain import comm
assert comm.world() is comm.local()
assert comm.world().size == 1
assert "mpi4py" not in sys.modules
assert "threadpoolctl" not in sys.modules
assert hooks == (sys.excepthook, threading.excepthook, sys.exit)
"""
    mpi.run([sys.executable, "-c", script]).check()


@pytest.mark.mpi
def test_ranks_share_seed_and_cores(run_ranks: Callable[..., Any], ranks: int, mpi_python: str) -> None:
    result = run_ranks(REPORT, ranks, python=mpi_python, env=NO_LIMITS).check()
    reports = json.loads(result.stdout)
    assert [report[:2] for report in reports] == [[rank, ranks] for rank in range(ranks)]
    assert len({report[2] for report in reports}) == 1
    if ranks > 1:
        share = max(1, len(os.sched_getaffinity(0)) // ranks)
        assert all(threads == [share] for *_, threads in reports), reports


@pytest.mark.mpi
def test_threads_that_the_user_chose_stay(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    result = run_ranks(REPORT, 2, python=mpi_python, env={**NO_LIMITS, "OMP_NUM_THREADS": "2"}).check()
    assert [report[3] for report in json.loads(result.stdout)] == [[2], [2]]


@pytest.mark.mpi
def test_a_given_seed_wins(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    result = run_ranks(REPORT, 2, python=mpi_python, env={"DISTRAIN_SEED": "77"}).check()
    assert [report[2] for report in json.loads(result.stdout)] == [77, 77]


@pytest.mark.mpi
def test_mpi_may_have_been_started_by_the_script(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    script = """
    from mpi4py import MPI
    from distrain import comm
    assert comm.world().size == MPI.COMM_WORLD.size == 2
    comm.world().barrier()
    """
    run_ranks(script, 2, python=mpi_python).check()


@pytest.mark.mpi
def test_a_size_that_mpi_does_not_know_is_refused(mpi: Any, mpi_python: str) -> None:
    """What mpiexec of another MPI comes to: every process believes to be alone."""
    environ = {
        "SLURM_STEP_ID": "0",
        "SLURM_PROCID": "1",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_LOCALID": "1",
        **mpi.mpiexec.command(mpi.mpiexec.find(python=mpi_python), 2, [], mpi.Machine.here()).variables,
    }
    result = mpi.run([mpi_python, "-c", "from distrain import comm; comm.world()"], env=environ, timeout=30)
    assert result.returncode == 1
    for text in ("srun says: rank 1 of 2", "MPI.COMM_WORLD says rank 0 of 1", "srun --mpi=list", "WorldError"):
        assert text in result.stderr


@pytest.mark.mpi
def test_mpiexec_of_another_mpi_is_named(mpi: Any) -> None:
    pythons = mpi.interpreters()
    if len(pythons) < 2:
        pytest.skip("needs a second MPI: set DISTRAIN_TEST_PYTHONS to an interpreter that has one")
    for starter, python in [pythons[:2], pythons[:2][::-1]]:
        command = mpi.mpiexec.command(
            mpi.mpiexec.find(python=starter),
            2,
            [python, "-c", "from distrain import comm; comm.world()"],
            mpi.Machine.here(),
        )
        result = mpi.run(command.arguments, env=command.variables, timeout=30)
        assert result.returncode != 0
        for text in ("do not belong together", "mpiexec of", f"mpi4py in {python}", "distrain run -n 2"):
            assert text in result.stderr


@pytest.mark.mpi
def test_ranks_without_mpi4py_say_what_to_install(mpi: Any) -> None:
    script = "import sys; sys.modules['mpi4py'] = None; from distrain import comm; comm.world()"
    result = mpi.run([sys.executable, "-c", script], env={"PMI_RANK": "0", "PMI_SIZE": "2"})
    assert result.returncode == 1
    assert "pip install distrain[mpich]" in result.stderr


CORES = """
import json, os
from distrain import comm
before = comm.cores()
os.environ["OMP_NUM_THREADS"] = "1"
world = comm.world()
reports = world.gather_obj([before, comm.cores()])
if reports:
    print(json.dumps(reports))
"""


@pytest.mark.mpi
def test_ranks_share_the_cores(run_ranks: Callable[..., Any], ranks: int, mpi_python: str) -> None:
    result = run_ranks(CORES, ranks, python=mpi_python, env=NO_LIMITS).check()
    available = len(os.sched_getaffinity(0))
    reports = json.loads(result.stdout)
    assert all(first == second for first, second in reports)
    assert all(first == max(1, available // ranks) for first, _ in reports), reports


def test_cores_of_one_process_are_those_it_may_use(mpi: Any) -> None:
    script = """
import os
from distrain import comm
usable = sorted(os.sched_getaffinity(0))
assert comm.cores() == len(usable)
os.sched_setaffinity(0, usable[:1])
assert comm.cores() == 1
"""
    mpi.run([sys.executable, "-c", script]).check()


NAMES = """
import re
from distrain import comm
comm.world().barrier()
mapped = [line for line in open("/proc/self/maps") if "/dev/shm/" in line]
assert not [line for line in mapped if "mpich" in line and not line.rstrip().endswith("(deleted)")], mapped
"""


@pytest.mark.mpi
def test_no_name_of_shared_memory_can_outlive_a_killed_rank(run_ranks: Callable[..., Any]) -> None:
    run_ranks(NAMES, 2).check()
