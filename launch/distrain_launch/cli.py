"""The `distrain` command line."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from distrain.env import rank_info
from distrain.errors import ArgumentError, LaunchError, WorldError
from distrain_launch import mpiexec, run
from distrain_launch.mpiexec import Command, Machine

_USAGE_ERROR = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code: the job's, or 2 if the job could not be started."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except (LaunchError, ArgumentError, WorldError) as error:
        print(f"distrain: {error}", file=sys.stderr)
        return _USAGE_ERROR


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distrain", description="Starts training scripts on one rank or on many.")
    parser.add_argument("--version", action="version", version=f"distrain {_version()}")
    commands = parser.add_subparsers(required=True, metavar="command")
    run_parser = commands.add_parser("run", help="start the ranks of a job on this machine")
    run_parser.add_argument("-n", "--ranks", type=int, default=1, metavar="N", help="number of ranks (default: 1)")
    run_parser.add_argument("--seed", type=int, metavar="S", help="the job's seed; the script sees it as DISTRAIN_SEED")
    run_parser.add_argument(
        "--reproducible",
        action="store_true",
        help="the same bits on any number of ranks; the script sees DISTRAIN_REPRODUCIBLE=1",
    )
    run_parser.add_argument("--mpiexec", metavar="PATH", help="the mpiexec to use (default: of this environment)")
    run_parser.add_argument("script", help="the training script")
    run_parser.add_argument("args", nargs=argparse.REMAINDER, help="arguments of the script")
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("distrain")
    except importlib.metadata.PackageNotFoundError:  # a source tree on PYTHONPATH
        return "(not installed)"


def _run(options: argparse.Namespace) -> int:
    _check(options)
    program = [sys.executable, options.script, *options.args]
    if options.ranks == 1:
        return run.replace(Command(program, _variables(options)))
    starter = mpiexec.find(options.mpiexec)
    return run.supervise(mpiexec.command(starter, options.ranks, program, Machine.here(), _variables(options)))


def _variables(options: argparse.Namespace) -> dict[str, str]:
    """What the ranks are told through their environment."""
    variables = {} if options.seed is None else {"DISTRAIN_SEED": str(options.seed)}
    if options.reproducible:
        variables["DISTRAIN_REPRODUCIBLE"] = "1"
    if options.ranks > 1 and sys.stdout.isatty():  # the ranks see a pipe, but what they print ends on this terminal
        size = shutil.get_terminal_size()
        variables["DISTRAIN_TERMINAL"] = f"{size.columns}x{size.lines}"
    return variables


def _check(options: argparse.Namespace) -> None:
    """Finds what would otherwise fail on every rank at once."""
    if options.ranks < 1:
        raise ArgumentError(f"-n {options.ranks}: the number of ranks must be at least 1.")
    if options.seed is not None and not 0 <= options.seed < 2**63:
        raise ArgumentError(f"--seed {options.seed}: the seed must be in 0 … 2**63 - 1.")
    script = Path(options.script)
    if not script.is_file():
        kind = "is not a file" if script.exists() else "does not exist"
        raise LaunchError(f"{options.script} {kind} (looked in {os.getcwd()}).")
    if rank_info().size > 1:
        raise LaunchError(
            "distrain run starts ranks itself, but it was started as one of several. Run it once, or call "
            "`python script` where it now says `distrain run`."
        )
    if options.ranks > 1 and importlib.util.find_spec("mpi4py") is None:
        raise LaunchError(
            f"{options.ranks} ranks need mpi4py, which {sys.executable} does not have. Install it with an MPI, "
            "`pip install distrain[mpich]`, or for the MPI of this machine, `pip install distrain[mpi]`."
        )
