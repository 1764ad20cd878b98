"""`distrain feed`: becomes `python -m distrain.iterators.feed.remote`, which knows the options."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any, NoReturn

from distrain.errors import LaunchError


def add_to(commands: Any) -> None:
    """Enters the subcommand; all its options are passed on."""
    parser = commands.add_parser(
        "feed", help="read samples for ranks on other hosts", add_help=False, prefix_chars="\0"
    )
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    parser.set_defaults(start=_start)


def _start(options: argparse.Namespace) -> NoReturn:
    command = [sys.executable, "-m", "distrain.iterators.feed.remote", *options.arguments]
    sys.stdout.flush()
    try:
        os.execv(sys.executable, command)
    except OSError as error:
        raise LaunchError(f"{sys.executable} cannot be run: {error}.") from error
