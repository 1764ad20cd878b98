"""`distrain bench comm`: ranks as of `distrain run`, with `python -m distrain.comm.bench`, which knows the options."""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from distrain.errors import ArgumentError, LaunchError
from distrain_launch.run import Request, run

_MODULE = "distrain.comm.bench"


def add_to(commands: Any) -> None:
    """Enters the subcommand; options that are not about starting ranks are passed on."""
    parser = commands.add_parser(
        "bench", help="measure communication, and predict steps on more ranks", add_help=False, prefix_chars="\0"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(start=_start)


def _start(options: argparse.Namespace) -> int:
    parser = _parser()
    wants_help = not {"-h", "--help"}.isdisjoint(options.arguments)
    if wants_help:
        parser.print_help()
        print(
            f"\nOptions of the measurement (for ranks that mpiexec or srun starts: python -m {_MODULE}):\n", flush=True
        )
        return _module(["--help"])
    known, rest = parser.parse_known_args(options.arguments)
    if known.n is not None and known.n < 2:
        raise ArgumentError(f"-n {known.n}: one rank has nobody to send to. Take -n 2 or more.")
    code = _module([*rest, "--check"])  # what is wrong with the options is said once, not by every rank
    if code:
        return code
    return run(Request(_MODULE, rest, ranks=known.n, mpiexec=known.mpiexec, all_gpus=True, is_module=True))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="distrain bench", add_help=False, allow_abbrev=False)
    parser.add_argument("what", choices=["comm"], help="comm: sums of arrays over the ranks")
    parser.add_argument("-n", type=int, metavar="N", help="number of ranks (default: one for each GPU, or core)")
    parser.add_argument("--mpiexec", metavar="PATH", help="the mpiexec to use (default: of this environment)")
    return parser


def _module(arguments: Sequence[str]) -> int:
    """Runs the module in one process; returns its exit code."""
    try:
        return subprocess.run([sys.executable, "-m", _MODULE, *arguments], check=False).returncode
    except OSError as error:
        raise LaunchError(f"{sys.executable} cannot be run: {error}.") from error
