from __future__ import annotations

import os
import subprocess
import sys

import pytest

from distrain.env import ALONE, RankInfo, rank_info, without_launcher
from distrain.errors import WorldError

TORCH = {"TORCHELASTIC_RUN_ID": "none"}
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NODEID": "0"}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, RankInfo(0, 1, 0, 1, "none"), id="plain"),
        pytest.param(
            {
                "OMPI_COMM_WORLD_RANK": "3",
                "OMPI_COMM_WORLD_SIZE": "4",
                "OMPI_COMM_WORLD_LOCAL_RANK": "1",
                "OMPI_COMM_WORLD_LOCAL_SIZE": "2",
                "PMIX_RANK": "3",
            },
            RankInfo(3, 4, 1, 2, "openmpi"),
            id="open mpi",
        ),
        pytest.param(
            {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2"},
            RankInfo(1, 2, 1, 2, "hydra"),
            id="mpich",
        ),
        pytest.param({"PMI_RANK": "1", "PMI_SIZE": "2"}, RankInfo(1, 2, None, None, "hydra"), id="pmi alone"),
        pytest.param(
            {
                **STEP,
                "SLURM_PROCID": "9",
                "SLURM_STEP_NUM_TASKS": "11",
                "SLURM_LOCALID": "1",
                "SLURM_NODEID": "2",
                "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
            },
            RankInfo(9, 11, 1, 3, "slurm"),
            id="srun",
        ),
        pytest.param(
            {**STEP, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_LOCALID": "1", "PMIX_RANK": "1"},
            RankInfo(1, 2, 1, None, "slurm"),
            id="srun --mpi=pmix",
        ),
        pytest.param(
            {**STEP, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "PMI_RANK": "1", "PMI_SIZE": "2"},
            RankInfo(1, 2, None, None, "hydra"),
            id="srun --mpi=pmi2",
        ),
        pytest.param(
            {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "8", "SLURM_LOCALID": "0"},
            RankInfo(0, 1, 0, 1, "none"),
            id="python in a batch script",
        ),
        pytest.param(
            {**STEP, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_LOCALID": "0", "PMIX_RANK": "0"},
            RankInfo(0, 1, 0, 1, "none"),
            id="an interactive shell",
        ),
        pytest.param(
            {
                **STEP,
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
                "OMPI_COMM_WORLD_RANK": "5",
                "OMPI_COMM_WORLD_SIZE": "8",
            },
            RankInfo(5, 8, None, None, "openmpi"),
            id="mpiexec in an allocation, its helpers started by srun",
        ),
        pytest.param(
            {
                **STEP,
                "SLURM_PROCID": "1",
                "SLURM_STEP_NUM_TASKS": "2",
                "SLURM_LOCALID": "0",
                "SLURM_NODEID": "1",
                "SLURM_STEP_TASKS_PER_NODE": "1(x2)",
                "PMIX_RANK": "1",
                "PMI_RANK": "5",
                "PMI_SIZE": "8",
            },
            RankInfo(5, 8, None, None, "hydra"),
            id="hydra in an allocation, its helpers started by srun --mpi=pmix",
        ),
        pytest.param(
            {
                **STEP,
                "SLURM_PROCID": "3",
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_LOCALID": "1",
                "SLURM_NODEID": "1",
                "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
                "PMI_RANK": "3",
                "PMI_SIZE": "4",
            },
            RankInfo(3, 4, 1, 2, "hydra"),
            id="srun --mpi=pmi2 tells the place on the node",
        ),
        pytest.param({"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"}, ALONE, id="names that mean nothing"),
        pytest.param({**TORCH, "RANK": "0", "WORLD_SIZE": "1"}, ALONE, id="torchrun of one"),
        pytest.param(
            {**TORCH, "RANK": "1", "WORLD_SIZE": "2", "PMI_RANK": "1", "PMI_SIZE": "2"},
            RankInfo(1, 2, None, None, "hydra"),
            id="torchrun agrees",
        ),
    ],
)
def test_rank_info(environ: dict[str, str], expected: RankInfo) -> None:
    assert rank_info(environ) == expected


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        pytest.param(
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMI_RANK": "0", "PMI_SIZE": "4"},
            ["rank 1 of 2", "rank 0 of 4", "inside another"],
            id="nested launchers",
        ),
        pytest.param(
            {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "0"},
            ["OMPI_COMM_WORLD_RANK=1", "PMIX_RANK=0"],
            id="pmix differs",
        ),
        pytest.param({"PMI_RANK": "2", "PMI_SIZE": "2"}, ["PMI_RANK=2", "PMI_SIZE=2", "0 … size - 1"], id="outside"),
        pytest.param({"PMI_RANK": "0", "PMI_SIZE": "0"}, ["PMI_SIZE=0"], id="no ranks"),
        pytest.param({"PMI_RANK": "1"}, ["PMI_RANK=1", "PMI_SIZE is not set"], id="no size"),
        pytest.param({"OMPI_COMM_WORLD_SIZE": "2"}, ["OMPI_COMM_WORLD_RANK is not set"], id="no rank"),
        pytest.param({"PMI_RANK": "one", "PMI_SIZE": "2"}, ["PMI_RANK='one'"], id="no number"),
        pytest.param({"PMIX_RANK": "1"}, ["PMIX_RANK=1", "how many"], id="pmix alone"),
        pytest.param(
            {
                **STEP,
                "SLURM_PROCID": "3",
                "SLURM_STEP_NUM_TASKS": "4",
                "SLURM_LOCALID": "3",
                "SLURM_STEP_TASKS_PER_NODE": "4",
                "PMI_RANK": "1",
                "PMI_SIZE": "2",
            },
            ["hydra: rank 1 of 2 (PMI_RANK=1 PMI_SIZE=2)", "slurm: rank 3 of 4 (SLURM_PROCID=3", "inside another"],
            id="mpiexec in each task of a step",
        ),
        pytest.param(
            {**STEP, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "PMIX_RANK": "0"},
            ["SLURM_PROCID=1", "PMIX_RANK=0"],
            id="srun and pmix",
        ),
        pytest.param(
            {**TORCH, "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"},
            ["torchrun started this process as rank 1 of 2 (RANK=1 WORLD_SIZE=2 LOCAL_RANK=1)", "distrain run"],
            id="torchrun alone",
        ),
        pytest.param(
            {**TORCH, "RANK": "1", "WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "4"},
            ["openmpi: rank 0 of 4", "torchrun: rank 1 of 2 (RANK=1 WORLD_SIZE=2)", "inside another"],
            id="torchrun and mpiexec",
        ),
        pytest.param({**TORCH, "RANK": "2", "WORLD_SIZE": "2"}, ["RANK=2 WORLD_SIZE=2"], id="torchrun outside"),
        pytest.param(
            {"PMI_RANK": "0", "PMI_SIZE": "2", "MPI_LOCALRANKID": "2", "MPI_LOCALNRANKS": "2"},
            ["MPI_LOCALRANKID=2"],
            id="local rank outside",
        ),
        pytest.param(
            {**STEP, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_TASKS_PER_NODE": "two"},
            ["SLURM_STEP_TASKS_PER_NODE=two"],
            id="slurm list",
        ),
    ],
)
def test_a_contradiction_names_both_sides(environ: dict[str, str], words: list[str]) -> None:
    with pytest.raises(WorldError) as caught:
        rank_info(environ)
    for word in words:
        assert word in str(caught.value)


LAUNCHED = [
    {
        "OMPI_COMM_WORLD_RANK": "3",
        "OMPI_COMM_WORLD_SIZE": "4",
        "OMPI_MCA_x": "1",
        "PMIX_RANK": "3",
        "PMIX_NAMESPACE": "n",
        "PRTE_MCA_x": "1",
    },
    {
        "PMI_RANK": "1",
        "PMI_SIZE": "2",
        "PMI_FD": "7",
        "MPI_LOCALRANKID": "1",
        "MPI_LOCALNRANKS": "2",
        "HYDI_CONTROL": "1",
    },
    {**STEP, "SLURM_PROCID": "9", "SLURM_STEP_NUM_TASKS": "11", "SLURM_STEP_TASKS_PER_NODE": "4(x2),3"},
]


@pytest.mark.parametrize("environ", LAUNCHED, ids=["open mpi", "mpich", "slurm"])
def test_a_helper_of_a_rank_is_no_rank(environ: dict[str, str]) -> None:
    own = {
        "PATH": "/bin",
        "HOME": "/root",
        "OMP_NUM_THREADS": "1",
        "DISTRAIN_SEED": "3",
        "MPICH_X": "1",
        "XPMI_RANK": "1",
    }
    before = dict(environ)
    assert rank_info(environ) != ALONE
    left = without_launcher({**environ, **own})
    assert rank_info(left) == ALONE
    assert own.items() <= left.items()
    assert left.keys() <= own.keys() | STEP.keys()
    assert environ == before


@pytest.mark.parametrize(("given", "expected"), [(None, "20"), ("26", "26")])
def test_the_import_says_how_long_threads_of_openblas_spin_unless_the_user_has(given, expected):
    environ = {name: value for name, value in os.environ.items() if name != "OPENBLAS_THREAD_TIMEOUT"}
    if given is not None:
        environ["OPENBLAS_THREAD_TIMEOUT"] = given
    code = (
        "import os, sys, distrain\n"
        "names = list(sys.modules)\n"
        "print(os.environ['OPENBLAS_THREAD_TIMEOUT'], names.index('numpy') > names.index('distrain.env'))"
    )
    answer = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, timeout=60)
    assert answer.stdout.split() == [expected, "True"], answer.stderr
