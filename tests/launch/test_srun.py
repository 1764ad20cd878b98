from __future__ import annotations

import pytest

from distrain.errors import ArgumentError, LaunchError
from distrain_launch.srun import Allocation, allocation, command, cores, kind, kinds, spoken

JOB = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "gpu[1-2]"}
MPICH = "MPICH Version:      5.0.2\nMPICH configure:    --with-device=ch4:ucx,ofi"
OPEN_MPI = "Open MPI v5.0.11, package: Open MPI user@host Distribution"
INTEL = "Intel(R) MPI Library 2021.11 for Linux* OS"

NEW = (
    "MPI plugin types are...\n\tpmix\n\tnone\n\tcray_shasta\n\tpmi2\nspecific pmix plugin versions available: pmix_v4\n"
)
OLD = "srun: MPI types are...\nsrun: none\nsrun: openmpi\nsrun: pmi2\n"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"SLURM_JOB_ID": "7"}, None),
        (JOB, Allocation("7", 2, "gpu[1-2]")),
        ({**JOB, "SLURM_NTASKS": "8", "SLURM_CPUS_PER_TASK": "4"}, Allocation("7", 2, "gpu[1-2]", 8, 4)),
        ({"SLURM_JOB_ID": "7", "SLURM_NNODES": "3", "SLURM_NODELIST": "n[1-3]"}, Allocation("7", 3, "n[1-3]")),
        (
            {**JOB, "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1", "SLURM_STEP_NUM_TASKS": "1"},
            Allocation("7", 2, "gpu[1-2]", is_step=True),
        ),
        ({**JOB, "SLURM_JOB_CPUS_PER_NODE": "16(x2),8"}, Allocation("7", 2, "gpu[1-2]", processors=40)),
        ({**JOB, "SLURM_JOB_CPUS_PER_NODE": "16(x"}, Allocation("7", 2, "gpu[1-2]")),
        ({**JOB, "SLURM_NTASKS": "many"}, Allocation("7", 2, "gpu[1-2]")),
    ],
    ids=["none", "no nodes", "nodes", "tasks", "old names", "a step", "processors", "no list", "no number"],
)
def test_allocation(environ: dict[str, str], expected: Allocation | None) -> None:
    assert allocation(environ) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [(NEW, ("pmix", "none", "cray_shasta", "pmi2", "pmix_v4")), (OLD, ("none", "openmpi", "pmi2")), ("", ())],
)
def test_what_srun_offers(text: str, expected: tuple[str, ...]) -> None:
    assert kinds(text) == expected


def test_what_a_library_speaks() -> None:
    assert spoken(MPICH) == spoken(INTEL) == spoken("MVAPICH Version: 4.0") == ("pmi2",)
    assert spoken(MPICH + " --with-pmix=/usr") == ("pmi2", "pmix")
    assert spoken("MPI VERSION    : CRAY MPICH version 8.1.28") == ("cray_shasta",)
    assert spoken(OPEN_MPI) == ("pmix",)
    assert spoken("") == spoken("LAM 7.1") == ()


@pytest.mark.parametrize(
    ("library", "offered", "expected"),
    [
        (MPICH, ("pmix", "none", "pmi2"), "pmi2"),
        (OPEN_MPI, ("pmix", "none", "pmi2", "pmix_v4"), "pmix"),
        (OPEN_MPI, ("none", "pmix_v4"), "pmix_v4"),
        (MPICH + " --with-pmix=/usr", ("none", "pmix"), "pmix"),
    ],
)
def test_the_kind_that_both_know(library: str, offered: tuple[str, ...], expected: str) -> None:
    assert kind(library, offered, {}) == expected


@pytest.mark.parametrize(
    ("library", "offered", "words"),
    [
        (OPEN_MPI, ("none", "pmi2"), "it has none, pmi2, but mpi4py loads Open MPI v5.0.11, which needs pmix."),
        (MPICH, (), "it has no kind of MPI, but mpi4py loads MPICH 5.0.2, which needs pmi2."),
        ("", ("pmi2",), "mpi4py loads an MPI that does not load, which is not known to speak any of them."),
        (INTEL, ("pmi2",), "I_MPI_PMI_LIBRARY does not say where that is."),
    ],
)
def test_no_kind(library: str, offered: tuple[str, ...], words: str) -> None:
    with pytest.raises(LaunchError) as caught:
        kind(library, offered, {})
    assert words in str(caught.value)
    assert "--launcher mpiexec" in str(caught.value)


def test_intel_mpi_is_told_where_the_library_is() -> None:
    assert kind(INTEL, ("pmi2",), {"I_MPI_PMI_LIBRARY": "/usr/lib64/libpmi2.so"}) == "pmi2"


REST = ["--export=ALL", "--input=none", "--kill-on-bad-exit=0", "--wait=0"]


@pytest.mark.parametrize(
    ("count", "here", "oversubscribe", "options"),
    [
        (8, Allocation("7", 2, "n"), False, ["--ntasks=8", "--nodes=2", *REST]),
        (1, Allocation("7", 2, "n"), False, ["--ntasks=1", "--nodes=1", *REST]),
        (2, Allocation("7", 2, "n", 2, 4), False, ["--ntasks=2", "--nodes=2", "--cpus-per-task=4", *REST]),
        (
            2,
            Allocation("7", 2, "n", is_step=True),
            True,
            ["--ntasks=2", "--nodes=2", *REST, "--overcommit", "--overlap"],
        ),
    ],
)
def test_command(count: int, here: Allocation, oversubscribe: bool, options: list[str]) -> None:
    made = command("/x/srun", "pmi2", count, ["python", "a b.py"], here, oversubscribe)
    assert made.arguments == ["/x/srun", "--mpi=pmi2", *options, "python", "a b.py"]
    assert made.variables == {}


@pytest.mark.parametrize(
    ("there", "processors", "environ", "expected"),
    [
        (8, 16, {}, (8, None)),
        (64, 128, {"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "32"}, (64, 8)),
        (4, 8, {"SLURM_CPUS_PER_TASK": "8", "SLURM_CPUS_ON_NODE": "32"}, (4, 4)),
        (1, 1, {"SLURM_CPUS_ON_NODE": "4"}, (1, 1)),
        (4, 4, {"SLURM_CPUS_ON_NODE": "4"}, (4, None)),
        (64, 128, {"SLURM_CPUS_ON_NODE": "4"}, (4, None)),
    ],
    ids=["not told", "asked for", "bound, two processors a core", "bound", "not bound", "not even the job is bound"],
)
def test_cores_of_a_rank(
    there: int, processors: int, environ: dict[str, str], expected: tuple[int, int | None]
) -> None:
    assert cores(there, processors, environ) == expected


def test_more_ranks_than_processors() -> None:
    here = Allocation("7", 2, "n", processors=8)
    here.check_room(8)
    Allocation("7", 2, "n").check_room(100)
    with pytest.raises(ArgumentError, match=r"-n 9: Slurm job 7 has 8 processors, .* give --oversubscribe"):
        here.check_room(9)
    with pytest.raises(ArgumentError, match="too few for 5 ranks with 2 each"):
        Allocation("7", 2, "n", cores_per_task=2, processors=8).check_room(5)
