"""Subcommands that become a module of the library, which knows their options."""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from typing import Any, NoReturn

from distrain.errors import LaunchError


def add_to(commands: Any, name: str, summary: str, module: str) -> None:
    """Enters a subcommand; all its options are passed on.

    Args:
        commands: the subcommands of a parser.
        name: of the subcommand.
        summary: its line in the help.
        module: what `python -m` is to run.
    """
    parser = commands.add_parser(name, help=summary, add_help=False, prefix_chars="\0")
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(start=partial(_start, module))


def _start(module: str, options: argparse.Namespace) -> NoReturn:
    command = [sys.executable, "-m", module, *options.arguments]
    sys.stdout.flush()
    try:
        os.execv(sys.executable, command)
    except OSError as error:
        raise LaunchError(f"{sys.executable} cannot be run: {error}.") from error
