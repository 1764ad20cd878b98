"""`distrain report`: becomes `python -m distrain.results`, which knows the options."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from distrain.errors import LaunchError


def add_to(commands: Any) -> None:
    """Enters the subcommand; all its options are passed on."""
    parser = commands.add_parser("report", help="write an HTML page about trainings", add_help=False, prefix_chars="\0")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(start=_start)


def _start(options: argparse.Namespace) -> NoReturn:
    command = [sys.executable, "-m", "distrain.results", *options.arguments]
    sys.stdout.flush()
    try:
        os.execv(sys.executable, command)
    except OSError as error:
        raise LaunchError(f"{sys.executable} cannot be run: {error}.") from error
