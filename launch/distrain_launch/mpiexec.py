"""Which mpiexec starts the ranks, and with which command line and environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distrain.errors import LaunchError
from distrain_launch.hosts import Host

_VERSION_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Mpiexec:
    """A program that starts ranks.

    Attributes:
        path: where it is.
        implementation: "openmpi" or "hydra" (MPICH, Intel MPI and their relatives).
    """

    path: str
    implementation: str


@dataclass(frozen=True, slots=True)
class Machine:
    """What the command line depends on besides the job itself."""

    cores: int
    is_root: bool

    @classmethod
    def here(cls) -> Machine:
        """This machine, as this process may use it."""
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        return cls(cores, is_root=os.geteuid() == 0)


@dataclass(frozen=True, slots=True)
class Command:
    """A command line, and the variables to add to the environment it runs in."""

    arguments: list[str]
    variables: dict[str, str] = field(default_factory=dict)


def find(given: str | None = None, python: str = sys.executable) -> Mpiexec:
    """The mpiexec to use: the given one, else the one beside the interpreter, else the first on the PATH.

    Raises:
        LaunchError: there is none, it does not run, or it is of an unknown make.
    """
    path = _path(given, python)
    return Mpiexec(path, implementation(version_text(path), path))


def _path(given: str | None, python: str) -> str:
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise LaunchError(f"{given} is not a program that can be run. Give --mpiexec the path of an mpiexec.")
        return found
    beside = Path(python).parent / "mpiexec"  # not resolved: in a virtual environment python itself is a link
    found = shutil.which(str(beside)) or shutil.which("mpiexec")
    if found is None:
        raise LaunchError(
            f"no mpiexec was found, neither {beside} nor on the PATH. Install an MPI into the environment with "
            "`pip install distrain[mpich]`, or load the MPI of the machine, or name it with --mpiexec."
        )
    return found


def version_text(path: str) -> str:
    """What an mpiexec prints when asked for its version.

    Raises:
        LaunchError: it does not run.
    """
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(f"{path} --version did not run: {error}. Name another one with --mpiexec.") from error
    return done.stdout + done.stderr


def implementation(version: str, path: str) -> str:
    """The make of an mpiexec, from what it prints when asked for its version.

    Raises:
        LaunchError: the make is not known.
    """
    if "Open MPI" in version or "OpenRTE" in version:
        return "openmpi"
    if any(name in version for name in ("HYDRA", "Intel(R) MPI", "MPICH", "MVAPICH")):
        return "hydra"
    first = version.strip().splitlines()[0] if version.strip() else "nothing"
    raise LaunchError(
        f"{path} is of an unknown make; asked for its version it says: {first}. Known are Open MPI, MPICH and Intel "
        "MPI. Start the ranks by hand, `mpiexec -n N python script`, or name another one with --mpiexec."
    )


def command(
    mpiexec: Mpiexec,
    ranks: int,
    program: Sequence[str],
    machine: Machine,
    hosts: Sequence[Host] = (),
    exported: Sequence[str] = (),
) -> Command:
    """The command that starts the ranks of a job.

    Args:
        mpiexec: the program that starts them.
        ranks: how many.
        program: command line of each rank.
        machine: cores and user of this machine.
        hosts: where they run, in this order; none: mpiexec decides, which is this machine or the batch job's.
        exported: names of variables that the ranks of other hosts must find too.
    """
    options, variables = ["-n", str(ranks)], {}
    if mpiexec.implementation == "openmpi":
        # Bound to one core each, ranks could not use the threads that distrain gives them.
        options += ["--bind-to", "none", *_openmpi_places(ranks, machine, hosts)]
        options += [word for name in exported for word in ("-x", name)]  # Hydra passes on the whole environment
        if machine.is_root:  # as in a container; Open MPI asks for the word twice, its newer runtime by another name
            for prefix in ("OMPI", "PRTE"):
                variables[f"{prefix}_ALLOW_RUN_AS_ROOT"] = "1"
                variables[f"{prefix}_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1"
    elif hosts:
        options += _hydra_places(hosts)
    elif ranks > machine.cores:
        variables["MPIR_CVAR_ENABLE_HEAVY_YIELD"] = "1"  # who waits lets others work; Open MPI does so by itself
    return Command([mpiexec.path, *options, *program], variables)


def _openmpi_places(ranks: int, machine: Machine, hosts: Sequence[Host]) -> list[str]:
    if not hosts:
        return ["--map-by", ":OVERSUBSCRIBE"] if ranks > machine.cores else []
    is_full = ranks > sum(host.slots for host in hosts)
    names = ",".join(f"{host.name}:{host.slots}" for host in hosts)
    return ["--host", names, "--map-by", "slot:OVERSUBSCRIBE" if is_full else "slot"]


def _hydra_places(hosts: Sequence[Host]) -> list[str]:
    slots = {host.slots for host in hosts}
    if len(slots) == 1:  # which Intel MPI understands too
        return ["-hosts", ",".join(host.name for host in hosts), "-ppn", str(slots.pop())]
    return ["-hosts", ",".join(f"{host.name}:{host.slots}" for host in hosts)]
