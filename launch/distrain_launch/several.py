"""Whether a job runs on several hosts, and who starts its ranks there.

given            `--hosts` or `--hostfile`: the site's mpiexec, through ssh or what else it knows.
allocated        the nodes that Slurm has given, if they are several: srun where its PMI and mpi4py's library fit, else
                 mpiexec, which asks Slurm for the nodes itself. `--launcher` takes the one or the other.
neither          this machine alone; see `distrain_launch.run`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from distrain.env import THREAD_VARIABLES
from distrain.errors import ArgumentError, LaunchError
from distrain_launch import hosts, mpiexec, plan, srun
from distrain_launch.hardware import Hardware
from distrain_launch.hosts import Host
from distrain_launch.library import ask_library
from distrain_launch.link import VARIABLE
from distrain_launch.mpiexec import Command, Machine
from distrain_launch.srun import Allocation

_LIBRARY_S = 60.0
_EXPORTED = ("DISTRAIN_", "PYTHON")  # beginnings of the variables that ranks of other hosts must find


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user says about hosts; see `distrain run --help`."""

    hosts: str | None = None
    hostfile: str | None = None
    launcher: str = "auto"
    oversubscribe: bool = False
    mpiexec: str | None = None

    def __post_init__(self) -> None:
        if self.hosts is not None and self.hostfile is not None:
            raise ArgumentError(f"--hosts {self.hosts} and --hostfile {self.hostfile}: give one of them.")
        if self.is_given and self.launcher == "srun":
            raise ArgumentError("--launcher srun: Slurm says which hosts there are. Leave out --hosts and --hostfile.")
        if self.mpiexec is not None and self.launcher == "srun":
            raise ArgumentError(f"--mpiexec {self.mpiexec} and --launcher srun: give one of them.")

    @property
    def is_given(self) -> bool:
        """Whether the hosts are named."""
        return self.hosts is not None or self.hostfile is not None


@dataclass(frozen=True, slots=True)
class Start:
    """How ranks start on several hosts.

    Attributes:
        ranks: how many.
        hosts: names of the hosts; those that are not known are left out.
        command: gives the command that starts one keeper a rank, from the command line of a keeper.
        is_bound: each rank may get its GPUs from who starts it.
        reason: what was chosen, and why.
    """

    ranks: int
    hosts: Sequence[str]
    command: Callable[[Sequence[str]], Command]
    is_bound: bool
    reason: str


def start(wish: Wish, ranks: int | None, environ: Mapping[str, str] = os.environ) -> Start | None:
    """How the ranks of a job start on several hosts; None: they run on this machine.

    Args:
        wish: what the user says about hosts.
        ranks: how many; None: as many as there is room for.
        environ: of this process, in which Slurm describes its allocation.

    Raises:
        ArgumentError, LaunchError: they cannot start.
    """
    if wish.is_given:
        return given(wish, ranks, environ)
    here = srun.allocation(environ)
    if here is None:
        if wish.launcher == "srun":
            raise LaunchError(
                "--launcher srun: this is no allocation of Slurm (SLURM_JOB_ID is not set). Get one with salloc or "
                "sbatch."
            )
        return None
    if here.nodes == 1 and wish.launcher != "srun":
        return None
    return _allocated(wish, here, *_number(here, ranks), environ)


def given_hosts(wish: Wish) -> list[Host]:
    """The hosts that the user names; none if none are named.

    Raises:
        ArgumentError, LaunchError: their list cannot be read.
    """
    if not wish.is_given:
        return []
    return hosts.listed(wish.hosts) if wish.hosts is not None else hosts.from_file(str(wish.hostfile))


def given(
    wish: Wish,
    ranks: int | None,
    environ: Mapping[str, str] = os.environ,
    least: int | None = None,
    absent: Container[str] = (),
) -> Start:
    """How the ranks of a job start on the hosts that the user names.

    Args:
        wish: what the user says about hosts.
        ranks: how many; None: as many as there is room for.
        environ: of this process.
        least: how many are enough where hosts are absent; None: no fewer.
        absent: names of hosts that do not answer; others of the list take their place.

    Raises:
        ArgumentError, LaunchError: they cannot start.
    """
    everybody = given_hosts(wish)
    wanted = hosts.ranks_of(everybody, ranks, wish.oversubscribe)
    there = [host for host in everybody if host.name not in absent]
    number = hosts.ranks_without(everybody, there, wanted, wanted if least is None else least)
    used = hosts.in_use(there, number)
    hosts.check_names(used)
    starter = mpiexec.find(wish.mpiexec)
    return Start(
        number,
        [host.name for host in used],
        lambda keeper: mpiexec.command(starter, number, keeper, Machine.here(), used, _exported(environ)),
        is_bound=False,
        reason=f"{_count(number, 'rank')} on {', '.join(host.name for host in used)}, started by {starter.path}",
    )


def _number(here: Allocation, wanted: int | None) -> tuple[int, str]:
    """How many ranks, and a word about the number if nobody has chosen it."""
    if wanted is not None:
        return wanted, ""
    if here.tasks is not None:
        return here.tasks, f"as many as the job has tasks{_OTHER}"
    each, why = plan.choose(Hardware.here(), has_mpi=True)
    return each * here.nodes, f"on each node {each}, because {why}{_OTHER}"


_OTHER = " (-n takes another number)"


def _allocated(wish: Wish, here: Allocation, ranks: int, why: str, environ: Mapping[str, str]) -> Start:
    words = [f"{_count(ranks, 'rank')} on {_count(here.nodes, 'node')} of Slurm job {here.job}", *filter(None, [why])]
    names = srun.nodes_of(here.node_list)
    kind, obstacle = _kind(environ) if wish.launcher != "mpiexec" and wish.mpiexec is None else ("", "")
    if kind:
        if not wish.oversubscribe:
            here.check_room(ranks)
        program = shutil.which("srun")
        assert program is not None
        words.append(f"started by srun --mpi={kind}, which mpi4py's MPI speaks (--launcher mpiexec is the other way)")

        def step(keeper: Sequence[str]) -> Command:
            return srun.command(program, kind, ranks, keeper, here, wish.oversubscribe)

        return Start(ranks, names, step, is_bound=True, reason="; ".join(words))
    if wish.launcher == "srun":
        raise LaunchError(obstacle)
    starter = mpiexec.find(wish.mpiexec)
    words.append(f"started by {starter.path}" + (f", because {obstacle.partition('. ')[0]}" if obstacle else ""))
    return Start(
        ranks,
        names,
        lambda keeper: mpiexec.command(starter, ranks, keeper, Machine.here(), (), _exported(environ)),
        is_bound=False,
        reason="; ".join(words),
    )


def _kind(environ: Mapping[str, str]) -> tuple[str, str]:
    """The kind of MPI with which srun starts the ranks, or why it cannot."""
    program = shutil.which("srun")
    if program is None:
        return "", "srun is not on the PATH. Take --launcher mpiexec, or add the folder of Slurm's commands to it."
    library = ask_library(_LIBRARY_S).values.get("library", "")
    try:
        return srun.kind(str(library), srun.offered(program), environ), ""
    except LaunchError as error:
        return "", str(error)


def _exported(environ: Mapping[str, str]) -> list[str]:
    names = {
        name for name in environ if name.startswith(_EXPORTED) or name in (*THREAD_VARIABLES, "CUDA_VISIBLE_DEVICES")
    }
    return sorted({*names, VARIABLE})


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"
