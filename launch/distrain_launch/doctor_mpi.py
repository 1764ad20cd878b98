"""Looks at MPI: the library that mpi4py loads, the mpiexec that would start it, and whether they belong together."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from distrain.env import rank_info
from distrain.errors import LaunchError, WorldError
from distrain_launch import mpiexec, srun
from distrain_launch.finding import Finding, ok, problem, warning
from distrain_launch.library import ask_library, short
from distrain_launch.mpiexec import Mpiexec

_NAMES = {"openmpi": "Open MPI", "hydra": "Hydra"}  # the latter of MPICH, Intel MPI and their relatives
_EXTRAS = {"openmpi": "openmpi", "hydra": "mpich"}


def findings(given: str | None, limit_s: float) -> Iterator[Finding]:
    """What is found of MPI.

    Args:
        given: the mpiexec that the user names; None: the one that `distrain run` takes.
        limit_s: seconds that MPI may take to load.
    """
    yield _surroundings()
    if importlib.util.find_spec("mpi4py") is None:
        yield ok("mpi", "without mpi4py there is one rank; `pip install distrain[mpich]` for more")
        return
    found, library = _library(limit_s)
    yield found
    yield from _allocation(library)
    try:
        starter = mpiexec.find(given)
    except LaunchError as error:
        yield problem("mpiexec", *_halves(str(error)))
        return
    yield _starter(starter, library)
    if given is None:
        yield from _another(starter)


def _halves(message: str) -> tuple[str, str]:
    """What happened and what to do, of a message that ends with the latter."""
    fact, _, remedy = message.partition(". ")
    return f"{fact}.", remedy or fact


def _surroundings() -> Finding:
    """Whether ranks can be started from here."""
    try:
        info = rank_info()
    except WorldError as error:
        return problem("launched by", *_halves(str(error)))
    if info.size == 1:
        return ok("launched by", "nobody: this process is no rank of a job")
    return problem(
        "launched by",
        f"{info.launcher}: this process is rank {info.rank} of {info.size}, and `distrain run` starts no ranks inside",
        "Call `distrain doctor` and `distrain run` once, outside of mpiexec and srun.",
    )


def _library(limit_s: float) -> tuple[Finding, str]:
    """What is said of the library, and how it calls itself."""
    answer = ask_library(limit_s)
    if "library" not in answer.values:
        remedy = (
            f"Install an MPI beside it, `{sys.executable} -m pip install distrain[mpich]`; or load the site's MPI and "
            "build mpi4py for it, `pip install --no-binary=mpi4py --force-reinstall mpi4py`."
        )
        return problem("mpi", f"mpi4py cannot load an MPI: {answer.failure}", remedy), ""
    library = str(answer.values["library"])
    standard = ".".join(map(str, answer.values["standard"]))
    return ok("mpi", f"{short(library)} (MPI {standard}), which mpi4py loads"), library


def _allocation(library: str) -> Iterator[Finding]:
    """How ranks start inside an allocation of Slurm."""
    here, program = srun.allocation(os.environ), shutil.which("srun")
    if here is None:
        return
    place = f"job {here.job} with {here.nodes} node{'s' * (here.nodes > 1)}"
    if program is None:
        yield warning("slurm", f"{place}, but no srun on the PATH", "Add the folder of Slurm's commands to the PATH.")
        return
    try:
        kind = srun.kind(library, srun.offered(program), os.environ)
    except LaunchError as error:
        fact, remedy = _halves(str(error))
        yield warning("slurm", f"{place}; {fact}", remedy)
    else:
        yield ok("slurm", f"{place}; srun --mpi={kind} fits mpi4py's MPI")


def _make(text: str) -> str | None:
    try:
        return mpiexec.implementation(text, "")
    except LaunchError:
        return None


def _starter(starter: Mpiexec, library: str) -> Finding:
    """Whether the mpiexec belongs to the library."""
    version, own = version_of(mpiexec.version_text(starter.path)), version_of(library)
    name = f"{starter.path} ({' '.join([_NAMES[starter.implementation], *filter(None, [dotted(version)])])})"
    make = _make(library)
    if make is None:
        if not library:
            return ok("mpiexec", f"{name}; whether it belongs to mpi4py's MPI is not known")
        remedy = "If ranks do not start, install an MPI that is known, `pip install distrain[mpich]`."
        return warning("mpiexec", f"{name}, but mpi4py loads an MPI of an unknown make: {short(library)}", remedy)
    if make != starter.implementation:
        return problem("mpiexec", f"{name}, but mpi4py loads {short(library)}", _mend(make, starter.implementation))
    if make == "openmpi" and version and own and version[0] != own[0]:
        return warning("mpiexec", f"{name}, but mpi4py loads version {dotted(own)}", _mend(make, make))
    return ok("mpiexec", f"{name}, which belongs to that MPI")


def version_of(text: str) -> tuple[int, ...]:
    """The first version that a text names; () if there is none."""
    found = re.search(r"\d+(\.\d+)+", text)
    return tuple(map(int, found[0].split("."))) if found else ()


def dotted(version: tuple[int, ...]) -> str:
    """A version as it is written."""
    return ".".join(map(str, version))


def _mend(wanted: str, there: str) -> str:
    """How the mpiexec and mpi4py come together."""
    fitting = [found.path for found in _all() if found.implementation == wanted] if wanted != there else []
    if fitting:
        return f"Give `distrain run` the one that belongs to it, `--mpiexec {fitting[0]}`."
    return (
        f"Give `distrain run` the mpiexec that was installed with that MPI (--mpiexec), or install one, "
        f"`{sys.executable} -m pip install distrain[{_EXTRAS[wanted]}]`."
    )


def _all() -> Iterator[Mpiexec]:
    """Every mpiexec of a known make beside the interpreter and on the PATH."""
    folders = [str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)]
    for folder in dict.fromkeys(filter(None, folders)):
        path = shutil.which("mpiexec", path=folder)
        if path is not None:
            try:
                yield mpiexec.find(path)
            except LaunchError:
                continue


def _another(starter: Mpiexec) -> Iterator[Finding]:
    """Whether the mpiexec that a user would type is another one."""
    typed = shutil.which("mpiexec")
    if typed is None or os.path.realpath(typed) == os.path.realpath(starter.path):
        return
    try:
        make = mpiexec.find(typed).implementation
    except LaunchError:
        make = "unknown"
    if make != starter.implementation:
        found = f"{typed} comes first, of {_NAMES.get(make, 'an unknown make')}; `distrain run` takes {starter.path}"
        remedy = f"Start ranks with `distrain run`, or with {starter.path}; or put its folder first on the PATH."
        yield warning("PATH", found, remedy)
