"""Who am I: rank and size of this process as the launcher's environment variables tell them. Starts nothing.

Known launchers, in the order in which they are asked:

    openmpi   OMPI_COMM_WORLD_RANK, …_SIZE, …_LOCAL_RANK, …_LOCAL_SIZE      Open MPI's mpiexec
    hydra     PMI_RANK, PMI_SIZE, MPI_LOCALRANKID, MPI_LOCALNRANKS          mpiexec of MPICH, Intel MPI; srun --mpi=pmi2
    slurm     SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_LOCALID …           srun
    none      nothing of the kind                                           plain python: one rank

Slurm comes last because its variables stay visible to ranks that mpiexec starts inside an allocation; they then
describe mpiexec or its helpers, not the ranks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

from distrain.errors import WorldError

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "GOTO_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
"""By which users and batch systems say how many threads BLAS may have in a process."""

# After a product in several threads OpenBLAS keeps its threads spinning for 2**26 ticks, some 30 ms, on cores where
# feeders and the threads of `functions.parallel` have work to do. 2**20 ticks, some 0.4 ms, still reach from one
# product of a small network to the next. OpenBLAS reads it when NumPy is loaded; the processes of a job inherit it.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")


@dataclass(frozen=True, slots=True)
class RankInfo:
    """Position of this process in its job.

    Attributes:
        rank: number of this process, 0 … size - 1.
        size: processes of the job.
        intra_rank: number of this process among those of its node; None if the launcher does not tell.
        intra_size: processes on this node; None if the launcher does not tell.
        launcher: "openmpi", "hydra", "slurm" or "none".
    """

    rank: int
    size: int
    intra_rank: int | None
    intra_size: int | None
    launcher: str


ALONE = RankInfo(0, 1, 0, 1, "none")


def rank_info(environ: Mapping[str, str] = os.environ) -> RankInfo:
    """Reads rank and size from the environment of a process.

    Raises:
        WorldError: a variable is no number, a rank lies outside its size, or two launchers contradict each other.
    """
    found = [info for read in (_openmpi, _hydra, _slurm) if (info := read(environ)) is not None]
    torch = _torchrun(environ)
    if not found:
        return _without_size(environ) if torch is None else _refuse(environ, torch)
    chosen = found[0]
    rivals = [info for info in found[1:] if info.launcher != "slurm" or (info.intra_size or 1) > 1]
    for rival in (*rivals, *filter(None, [torch])):
        if (rival.rank, rival.size) != (chosen.rank, chosen.size):
            raise _contradiction(environ, chosen, rival)
    pmix_rank = _number(environ, "PMIX_RANK")
    if pmix_rank is not None and pmix_rank != chosen.rank and chosen.launcher != "hydra":
        raise WorldError(
            f"the environment contradicts itself: {_shown(environ, chosen.launcher)}, but PMIX_RANK={pmix_rank}. "
            f"{_NESTED}"
        )
    return _located(chosen, found[-1])


def _located(info: RankInfo, step: RankInfo) -> RankInfo:
    """With its place on the node, which srun tells where PMI does not."""
    is_same = step.launcher == "slurm" and (step.rank, step.size) == (info.rank, info.size)
    if info.intra_rank is not None or not is_same:
        return info
    return replace(info, intra_rank=step.intra_rank, intra_size=step.intra_size)


_VARIABLES = {
    "openmpi": (
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
    ),
    "hydra": ("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS"),
    "slurm": ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"),
    "torchrun": ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"),
}

_NESTED = (
    "Most likely one launcher was started inside another. Start the ranks once, from a shell outside the job, or "
    "unset the variables of the outer launcher."
)


def _openmpi(environ: Mapping[str, str]) -> RankInfo | None:
    return _read(environ, "openmpi")


def _hydra(environ: Mapping[str, str]) -> RankInfo | None:
    return _read(environ, "hydra")


def _slurm(environ: Mapping[str, str]) -> RankInfo | None:
    # A batch script runs once, outside any step, whatever number of tasks the job has: there Slurm sets SLURM_PROCID
    # and SLURM_NTASKS, but no step.
    if "SLURM_STEP_ID" not in environ or "SLURM_STEP_NUM_TASKS" not in environ:
        return None
    info = _read(environ, "slurm")
    return None if info is None or info.size == 1 else info


def _torchrun(environ: Mapping[str, str]) -> RankInfo | None:
    # The names are too common to mean anything without the one that is torchrun's own.
    if "TORCHELASTIC_RUN_ID" not in environ:
        return None
    info = _read(environ, "torchrun")
    return None if info is None or info.size == 1 else info


def _refuse(environ: Mapping[str, str], torch: RankInfo) -> NoReturn:
    raise WorldError(
        f"torchrun started this process as rank {torch.rank} of {torch.size} ({_shown(environ, 'torchrun')}), but "
        "ranks of distrain talk through MPI, which it does not start: each would train by itself. Take `distrain run` "
        "in its place, or unset TORCHELASTIC_RUN_ID to train on one."
    )


def _read(environ: Mapping[str, str], launcher: str) -> RankInfo | None:
    rank_name, size_name, *local_names = _VARIABLES[launcher]
    rank, size = _number(environ, rank_name), _number(environ, size_name)
    if rank is None and size is None:
        return None
    if rank is None or size is None:
        given, missing = (size_name, rank_name) if rank is None else (rank_name, size_name)
        raise WorldError(
            f"the environment is incomplete: {given}={environ[given]}, but {missing} is not set. "
            f"Start the ranks with mpiexec or srun, or unset {given}."
        )
    local_rank = _number(environ, local_names[0])
    local_size = _step_tasks_here(environ) if launcher == "slurm" else _number(environ, local_names[1])
    info = RankInfo(rank, size, local_rank, local_size, launcher)
    outside = not 0 <= rank < size
    outside_node = local_rank is not None and local_size is not None and not 0 <= local_rank < local_size <= size
    if outside or outside_node:
        raise WorldError(
            f"the environment contradicts itself: {_shown(environ, launcher)}. A rank must be 0 … size - 1. "
            "Start the ranks with mpiexec or srun, and do not set these variables by hand."
        )
    return info


def _step_tasks_here(environ: Mapping[str, str]) -> int | None:
    """Tasks of the step on this node, from a list such as `4(x2),3` and the number of the node."""
    tasks, node = environ.get("SLURM_STEP_TASKS_PER_NODE"), _number(environ, "SLURM_NODEID")
    if tasks is None or node is None:
        return None
    counts: list[int] = []
    for part in tasks.split(","):
        parsed = re.fullmatch(r"(\d+)(?:\(x(\d+)\))?", part)
        if parsed is None:
            raise WorldError(f"SLURM_STEP_TASKS_PER_NODE={tasks} cannot be read; expected a list such as 4(x2),3.")
        counts += [int(parsed[1])] * int(parsed[2] or 1)
    return counts[node] if node < len(counts) else None


def _without_size(environ: Mapping[str, str]) -> RankInfo:
    if "PMIX_RANK" not in environ or _number(environ, "SLURM_STEP_NUM_TASKS") == 1:
        return ALONE
    raise WorldError(
        f"PMIX_RANK={environ['PMIX_RANK']} says that a launcher started this process as one of several ranks, but no "
        "variable tells how many. Start the ranks with mpiexec, or with srun --mpi=pmix, or unset PMIX_RANK."
    )


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if text is None:
        return None
    if not re.fullmatch(r"-?\d{1,18}", text):
        raise WorldError(f"{name}={text!r} is not a number. It is set by the launcher; do not set it by hand.")
    return int(text)


def _shown(environ: Mapping[str, str], launcher: str) -> str:
    return " ".join(f"{name}={environ[name]}" for name in _VARIABLES[launcher] if name in environ)


def _contradiction(environ: Mapping[str, str], one: RankInfo, other: RankInfo) -> WorldError:
    return WorldError(
        "the environment contradicts itself:\n"
        f"  {one.launcher}: rank {one.rank} of {one.size} ({_shown(environ, one.launcher)})\n"
        f"  {other.launcher}: rank {other.rank} of {other.size} ({_shown(environ, other.launcher)})\n"
        f"{_NESTED}"
    )


_LAUNCHER_PREFIXES = (
    "OMPI_",
    "PMI_",
    "PMIX_",
    "PRTE_",
    "HYDRA_",
    "HYDI_",
    "MPI_LOCAL",
    "SLURM_STEP_",
    "SLURM_PROCID",
    "TORCHELASTIC_",
)


def without_launcher(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for a helper process of a rank, which is no rank itself and must not be taken for one."""
    return {name: value for name, value in environ.items() if not name.startswith(_LAUNCHER_PREFIXES)}
