"""Slurm: the allocation that this process is in, and how srun starts ranks there.

srun and the MPI library meet through an interface for process management (PMI), which Slurm has as plugins. Which one a
library speaks is fixed when it is built:

    MPICH, Intel MPI, MVAPICH     pmi2 (a build for it: pmix)
    Cray MPICH                    cray_shasta
    Open MPI                      pmix
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distrain.errors import ArgumentError, LaunchError
from distrain_launch.library import short
from distrain_launch.mpiexec import Command

_ASK_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Allocation:
    """What Slurm has given to a job.

    Attributes:
        job: its number.
        nodes: how many.
        node_list: their names, as `gpu[01-04]`.
        tasks: how many ranks the job was asked for; None: the request does not tell.
        cores_per_task: of each rank; None: the request does not tell.
        is_step: this process is in a step of the job, as in `srun --pty bash`.
        processors: of all nodes together, as Slurm counts them; None: the request does not tell.
    """

    job: str
    nodes: int
    node_list: str
    tasks: int | None = None
    cores_per_task: int | None = None
    is_step: bool = False
    processors: int | None = None

    def check_room(self, ranks: int) -> None:
        """Whether srun starts so many ranks without being told that they may share cores.

        Raises:
            ArgumentError: it does not.
        """
        if self.processors is not None and ranks * (self.cores_per_task or 1) > self.processors:
            each = f" with {self.cores_per_task} each" if self.cores_per_task else ""
            raise ArgumentError(
                f"-n {ranks}: Slurm job {self.job} has {self.processors} processors, which is too few for {ranks} "
                f"ranks{each}. Take fewer ranks, ask Slurm for more, or give --oversubscribe."
            )


def allocation(environ: Mapping[str, str]) -> Allocation | None:
    """The allocation that this process is in; None if it is in none."""
    job = environ.get("SLURM_JOB_ID")
    nodes = _number(environ, "SLURM_JOB_NUM_NODES") or _number(environ, "SLURM_NNODES")
    if not job or nodes is None:
        return None
    is_step, tasks = "SLURM_STEP_ID" in environ, _number(environ, "SLURM_NTASKS")
    if is_step and tasks == _number(environ, "SLURM_STEP_NUM_TASKS"):  # of the step, such as an interactive shell
        tasks = None
    names = environ.get("SLURM_JOB_NODELIST") or environ.get("SLURM_NODELIST") or ""
    processors = processors_of(environ.get("SLURM_JOB_CPUS_PER_NODE", ""))
    return Allocation(job, nodes, names, tasks, _number(environ, "SLURM_CPUS_PER_TASK"), is_step, processors)


def processors_of(text: str) -> int | None:
    """The sum of a list such as `16(x2),8`; None if it is none."""
    parts = [re.fullmatch(r"([0-9]{1,6})(?:\(x([0-9]{1,6})\))?", part, re.ASCII) for part in text.split(",")]
    if None in parts:
        return None
    return sum(int(part[1]) * int(part[2] or 1) for part in parts if part is not None)


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name, "")
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) and int(text) else None


def cores(there: int, processors: int, environ: Mapping[str, str]) -> tuple[int, int | None]:
    """The cores of a step on a node, and those of one rank; None: they are shared by the ranks of the node.

    Args:
        there: physical cores that the rank may use.
        processors: the same as the system counts them.
        environ: of the rank. Where Slurm does not bind ranks it says at least how many processors they have.
    """
    each, all_of_them = _number(environ, "SLURM_CPUS_PER_TASK"), _number(environ, "SLURM_CPUS_ON_NODE")
    if each is not None:
        return there, min(there, each)
    if all_of_them is None:
        return there, None
    return min(there, all_of_them), there if processors < all_of_them else None


def nodes_of(node_list: str) -> list[str]:
    """The names in a list such as `gpu[01-04]`; empty if scontrol does not say."""
    program = shutil.which("scontrol")
    return [] if program is None else _ask(program, "show", "hostnames", node_list).split()


def offered(program: str) -> tuple[str, ...]:
    """The kinds of MPI that srun has plugins for."""
    return kinds(_ask(program, "--mpi=list"))


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=_ASK_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{' '.join(command)} failed: {error}. Take --launcher mpiexec.") from error
    return done.stdout + done.stderr


def kinds(text: str) -> tuple[str, ...]:
    """The kinds in what `srun --mpi=list` prints, in its order."""
    words = [word for line in text.splitlines() for word in line.rpartition(":")[2].replace(",", " ").split()]
    found = [word for word in words if re.fullmatch(r"none|openmpi|pmi[12]|pmix\w*|cray\w+", word)]
    return tuple(dict.fromkeys(found))


def spoken(library: str) -> tuple[str, ...]:
    """The kinds that an MPI library speaks, the best one first; none if it is not known.

    Args:
        library: what it says of itself.
    """
    if "Open MPI" in library:
        return ("pmix",)
    if "CRAY MPICH" in library:
        return ("cray_shasta",)
    if any(name in library for name in ("MPICH", "MVAPICH", "Intel(R) MPI")):
        return ("pmi2", "pmix") if "--with-pmix" in library else ("pmi2",)
    return ()


def kind(library: str, offered: Sequence[str], environ: Mapping[str, str]) -> str:
    """The kind that both sides know.

    Args:
        library: what the MPI library says of itself.
        offered: what srun has.
        environ: of the job; Intel MPI must be told there where Slurm's own library is.

    Raises:
        LaunchError: there is none.
    """
    name, wanted = short(library) or "an MPI that does not load", spoken(library)
    if "Intel(R) MPI" in library and not environ.get("I_MPI_PMI_LIBRARY"):
        raise LaunchError(
            f"srun cannot start the ranks: mpi4py loads {name}, which needs Slurm's libpmi2.so for it, and "
            "I_MPI_PMI_LIBRARY does not say where that is. Set it, or take --launcher mpiexec."
        )
    for one in wanted:
        fitting = [other for other in offered if other == one] or [other for other in offered if other.startswith(one)]
        if fitting:
            return fitting[0]
    needed = f"needs {' or '.join(wanted)}" if wanted else "is not known to speak any of them"
    raise LaunchError(
        f"srun cannot start the ranks: it has {', '.join(offered) or 'no kind of MPI'}, but mpi4py loads {name}, which "
        f"{needed}. Take --launcher mpiexec, or install an mpi4py for the MPI that the site has built for Slurm."
    )


def command(
    program: str, kind: str, ranks: int, keeper: Sequence[str], here: Allocation, oversubscribe: bool = False
) -> Command:
    """The command that starts the ranks of a job on the nodes of an allocation.

    Args:
        program: srun.
        kind: of MPI.
        ranks: how many.
        keeper: command line of each rank.
        here: the allocation.
        oversubscribe: there may be more ranks than cores.
    """
    options = [f"--mpi={kind}", f"--ntasks={ranks}", f"--nodes={min(ranks, here.nodes)}"]
    if here.cores_per_task is not None:  # newer versions do not take it from the job
        options.append(f"--cpus-per-task={here.cores_per_task}")
    options += ["--export=ALL", "--input=none", "--kill-on-bad-exit=0", "--wait=0"]
    if oversubscribe:
        options.append("--overcommit")
    if here.is_step:  # which would otherwise keep what it has, and srun would wait for it
        options.append("--overlap")
    return Command([program, *options, *keeper])
