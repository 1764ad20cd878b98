"""`distrain run`: from the request to a running job."""

from __future__ import annotations

import importlib.util
import math
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distrain.env import rank_info
from distrain.errors import ArgumentError, LaunchError
from distrain_launch import mpiexec, plan, restart, several
from distrain_launch.abroad import Abroad
from distrain_launch.conclusion import Attempt
from distrain_launch.hardware import Hardware
from distrain_launch.mpiexec import Command, Machine
from distrain_launch.output import Output
from distrain_launch.plan import Place
from distrain_launch.restart import Restarts
from distrain_launch.several import Start, Wish
from distrain_launch.supervise import Job, Supervisor


@dataclass(frozen=True)
class Request:
    """What the user asks for; see `distrain run --help`. With `is_module` the script is a module, as of `python -m`."""

    script: str
    args: Sequence[str] = ()
    ranks: int | None = None
    seed: int | None = None
    reproducible: bool = False
    dry_run: bool = False
    all_gpus: bool = False
    shown: str | None = None
    quiet: bool = False
    log_dir: str | None = None
    shutdown_timeout: float = 10.0
    grace: float = 60.0
    max_restarts: int = 0
    restart_delay: float = 1.0
    mpiexec: str | None = None
    is_module: bool = False
    hosts: str | None = None
    hostfile: str | None = None
    launcher: str = "auto"
    oversubscribe: bool = False


def run(request: Request) -> int:
    """Runs the job to its end and returns its exit code.

    A job of one rank needs nobody to look after it: the launcher becomes the script, unless its output is to go
    elsewhere.

    Raises:
        ArgumentError: the request can never work.
        LaunchError: the job cannot be started here.
    """
    _check(request)
    program = [sys.executable, *(["-m"] if request.is_module else []), request.script, *request.args]
    variables = {} if request.seed is None else {"DISTRAIN_SEED": str(request.seed)}
    if request.reproducible:
        variables["DISTRAIN_REPRODUCIBLE"] = "1"
    if request.dry_run:
        variables["DISTRAIN_DRY_RUN"] = "1"
    variables["DISTRAIN_GRACE"] = f"{request.grace:g}"
    wish = Wish(request.hosts, request.hostfile, request.launcher, request.oversubscribe, request.mpiexec)
    is_plain = not (request.log_dir or request.shown or request.quiet or request.max_restarts or wish.is_given)
    if request.ranks == 1 and is_plain:
        return _become(program, variables)
    found = several.start(wish, request.ranks)
    if found is None:
        hardware = Hardware.here()
        ranks = request.ranks or _choose(request, hardware)
        if ranks == 1 and is_plain:
            return _become(program, variables)
        places, command, abroad = plan.places(hardware, ranks, request.all_gpus), _command(request, ranks), None
    else:
        places, command, abroad = _elsewhere(request, found)
    for name in ("PYTHONUNBUFFERED", "PYTHONFAULTHANDLER"):  # what a rank has printed, and where it was, is not lost
        if not os.environ.get(name):
            variables[name] = "1"
    log_dir = _log_dir(request.log_dir)
    job = Job(places, variables, log_dir, request.shutdown_timeout, request.grace, abroad)
    shown = _shown(request, len(places))

    def start(more: Mapping[str, str]) -> Attempt:
        return Supervisor(command, program, replace(job, variables={**variables, **more}), Output(shown)).run()

    if not request.max_restarts:
        return start({}).code
    restarts = Restarts(request.max_restarts, request.restart_delay)
    return restart.run(start, restarts, lambda text: Output(shown).say(text))


_Starter = Callable[[Sequence[str]], Command]  # what starts one keeper a rank, from the command line of a keeper


def _elsewhere(request: Request, start: Start) -> tuple[list[Place], _Starter, Abroad]:
    """Places that count the ranks, what starts them, and their hosts; with a word about them."""
    _check_mpi(start.ranks)
    if not request.quiet:
        print(f"distrain: {start.reason}", file=sys.stderr)
    places = [Place(None, (), 1)] * start.ranks
    return places, start.command, Abroad(start.hosts, request.all_gpus, start.is_bound)


def _has_mpi() -> bool:
    return importlib.util.find_spec("mpi4py") is not None


def _choose(request: Request, hardware: Hardware) -> int:
    """A number of ranks, and a word about it."""
    ranks, reason = plan.choose(hardware, _has_mpi())
    if not request.quiet:
        print(f"distrain: {ranks} rank{'s' * (ranks > 1)}: {reason} (-n takes another number)", file=sys.stderr)
    return ranks


def _command(request: Request, ranks: int) -> _Starter:
    """What starts one keeper a rank; a single one needs no mpiexec."""
    if ranks == 1:
        return lambda keeper: Command(list(keeper))
    _check_mpi(ranks)
    starter = mpiexec.find(request.mpiexec)
    return lambda keeper: mpiexec.command(starter, ranks, keeper, Machine.here())


def _check_mpi(ranks: int) -> None:
    if not _has_mpi():
        raise LaunchError(
            f"{ranks} ranks need mpi4py, which {sys.executable} does not have. Install it with an MPI, "
            "`pip install distrain[mpich]`, or for the MPI of this machine, `pip install distrain[mpi]`."
        )


def _become(program: list[str], variables: dict[str, str]) -> int:
    """Becomes the script: its signals and exit code are then the launcher's own."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execve(program[0], program, {**os.environ, **variables})
    except OSError as error:
        raise LaunchError(f"{program[0]} cannot be run: {error}.") from error


def _shown(request: Request, ranks: int) -> set[int] | None:
    """The ranks whose output is shown; None: all."""
    if request.quiet:
        return set()
    if request.shown in (None, "all"):
        return None
    assert request.shown is not None
    shown = {int(number) for number in request.shown.split(",")}
    if max(shown) >= ranks:
        raise ArgumentError(f"--ranks {request.shown}: there are {ranks} ranks, 0 … {ranks - 1}.")
    return shown


def _log_dir(given: str | None) -> Path | None:
    """The folder for what the ranks print, without the files of an earlier run."""
    if given is None:
        return None
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("rank-*.log"):
            file.unlink()
        (folder / "rank-0.log").touch()
    except OSError as error:
        raise LaunchError(f"--log-dir {given}: {error}. Name a folder that can be written to.") from error
    return folder


def _check(request: Request) -> None:
    """Finds what would otherwise fail on every rank at once."""
    if request.ranks is not None and request.ranks < 1:
        raise ArgumentError(f"-n {request.ranks}: the number of ranks must be at least 1.")
    if request.seed is not None and not 0 <= request.seed < 2**63:
        raise ArgumentError(f"--seed {request.seed}: the seed must be in 0 … 2**63 - 1.")
    if not request.shutdown_timeout >= 0:
        raise ArgumentError(f"--shutdown-timeout {request.shutdown_timeout}: the time must be 0 s or more.")
    if request.shown not in (None, "all") and not re.fullmatch(r"\d+(,\d+)*", str(request.shown)):
        raise ArgumentError(f"--ranks {request.shown}: expected numbers of ranks such as 0,3, or all.")
    if not 0 < request.grace < math.inf:
        raise ArgumentError(f"--grace {request.grace}: the time must be more than 0 s.")
    if request.max_restarts < 0:
        raise ArgumentError(f"--max-restarts {request.max_restarts}: the number must be 0 or more.")
    if not 0 <= request.restart_delay < math.inf:
        raise ArgumentError(f"--restart-delay {request.restart_delay}: the time must be 0 s or more.")
    script = Path(request.script)
    if not request.is_module and not script.is_file():
        kind = "is not a file" if script.exists() else "does not exist"
        raise LaunchError(f"{request.script} {kind} (looked in {os.getcwd()}).")
    if rank_info().size > 1:
        raise LaunchError(
            "distrain run starts ranks itself, but it was started as one of several. Run it once, or call "
            "`python script` where it now says `distrain run`."
        )
