"""`distrain run`: from the request to a running job."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from distrain.env import rank_info
from distrain.errors import ArgumentError, LaunchError
from distrain_launch import plan, restart, several
from distrain_launch.conclusion import Attempt
from distrain_launch.crew import Muster, OnHosts, OnThisMachine, check_mpi, has_mpi, local_starter
from distrain_launch.hardware import Hardware
from distrain_launch.job import Job
from distrain_launch.output import Output
from distrain_launch.restart import Restarts
from distrain_launch.several import Wish
from distrain_launch.supervise import Supervisor


@dataclass(frozen=True)
class Request:
    """What the user asks for; see `distrain run --help`. With `is_module` the script is a module, as of `python -m`."""

    script: str
    args: Sequence[str] = ()
    ranks: int | None = None
    min_n: int | None = None
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
    muster, most = _muster(request)
    if muster is None:
        return _become(program, variables)
    for name in ("PYTHONUNBUFFERED", "PYTHONFAULTHANDLER"):  # what a rank has printed, and where it was, is not lost
        if not os.environ.get(name):
            variables[name] = "1"
    job = Job((), variables, _log_dir(request.log_dir), request.shutdown_timeout, request.grace)
    shown = _shown(request, most)
    said: list[str] = []

    def start(more: Mapping[str, str], is_again: bool) -> Attempt:
        crew = muster.gather(is_again)
        if isinstance(crew, int):
            return restart.told_to_end(crew, say)
        if crew.reason and not request.quiet and crew.reason not in said[-1:]:
            said.append(crew.reason)
            print(f"distrain: {crew.reason}", file=sys.stderr)
        mine = replace(job, places=crew.places, abroad=crew.abroad, variables={**variables, **more})
        return Supervisor(crew.command, program, mine, Output(shown)).run()

    def say(text: str) -> None:
        Output(shown).say(text)

    if not request.max_restarts:
        return start({}, is_again=False).code
    return restart.run(start, Restarts(request.max_restarts, request.restart_delay), say)


def _muster(request: Request) -> tuple[Muster | None, int]:
    """Who gathers the ranks, and how many they are at most; None for a single one that nobody needs to look after."""
    wish = Wish(request.hosts, request.hostfile, request.launcher, request.oversubscribe, request.mpiexec)
    is_plain = not (request.log_dir or request.shown or request.quiet or request.max_restarts or wish.is_given)
    if request.ranks == 1 and is_plain:
        return None, 1
    found = several.start(wish, request.ranks)
    if found is not None:
        check_mpi(found.ranks)
        if request.min_n is not None and request.min_n > found.ranks:
            raise ArgumentError(f"--min-n {request.min_n}: the job has {found.ranks} ranks at most.")
        return OnHosts(wish, found, request.min_n, request.all_gpus), found.ranks
    hardware = Hardware.here()
    ranks = request.ranks or _choose(request, hardware)
    if ranks == 1 and is_plain:
        return None, 1
    return OnThisMachine(ranks, request.min_n, hardware, request.all_gpus, local_starter(request.mpiexec)), ranks


def _choose(request: Request, hardware: Hardware) -> int:
    """A number of ranks, and a word about it."""
    ranks, reason = plan.choose(hardware, has_mpi())
    if not request.quiet:
        print(f"distrain: {ranks} rank{'s' * (ranks > 1)}: {reason} (-n takes another number)", file=sys.stderr)
    return ranks


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
    if request.min_n is not None and not 1 <= request.min_n <= (request.ranks or request.min_n):
        raise ArgumentError(f"--min-n {request.min_n}: expected a number of ranks from 1 to that of -n.")
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
