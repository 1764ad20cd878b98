"""`distrain doctor`: what is installed, what would run where, what is wrong and how to mend it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from distrain.errors import ArgumentError
from distrain_launch.finding import Finding, as_json, block, shown, summary

_LIMIT_S = 60.0


def add_to(commands: Any) -> None:
    """Enters the subcommand."""
    parser = commands.add_parser("doctor", help="say what is installed, what is wrong, and how to mend it")
    parser.add_argument("--full", action="store_true", help="start two ranks as well, and see what they can do")
    parser.add_argument("--json", action="store_true", help="print a list of objects instead of text")
    parser.add_argument("--mpiexec", metavar="PATH", help="the mpiexec to look at (default: of this environment)")
    parser.add_argument(
        "--timeout",
        type=float,
        default=_LIMIT_S,
        metavar="S",
        help="seconds that each program which is asked, and the two ranks, may take (default: %(default)g)",
    )
    parser.set_defaults(start=_start)


def _start(options: argparse.Namespace) -> int:
    """Looks at everything; returns 1 if there is a problem."""
    if not options.timeout > 0:
        raise ArgumentError(f"--timeout {options.timeout}: the time must be more than 0 s.")
    try:
        findings = _show(options)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # as in `distrain doctor | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return int(any(finding.level == "problem" for finding in findings))


def _show(options: argparse.Namespace) -> list[Finding]:
    """Prints what is found, text as it comes."""
    is_coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    findings = []
    for finding in _findings(options):
        findings.append(finding)
        if not options.json:
            print(shown(finding, is_coloured), flush=True)
    if options.json:
        print(as_json(findings), flush=True)
    else:
        print(f"\n{summary(findings)}. For a bug report:\n\n{block(findings)}", flush=True)
    return findings


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    # Late, because this file is part of every `distrain run`.
    from distrain_launch import doctor_machine, doctor_mpi, doctor_ranks, doctor_software  # noqa: PLC0415

    yield from doctor_software.findings(options.timeout)
    yield from doctor_mpi.findings(options.mpiexec, options.timeout)
    yield from doctor_machine.findings()
    if options.full:
        yield from doctor_ranks.findings(options.mpiexec, options.timeout)
