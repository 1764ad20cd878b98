"""Which MPI library mpi4py loads, asked in a process of its own: loading it may fail in many ways."""

from __future__ import annotations

import re

from distrain_launch.ask import Answer, ask

_LIBRARY = """
import mpi4py
mpi4py.rc.initialize = mpi4py.rc.finalize = False
from mpi4py import MPI
tell("library", MPI.Get_library_version().strip("\\0 \\n"))
tell("standard", MPI.Get_version())
"""


def ask_library(limit_s: float) -> Answer:
    """What the library says of itself: `library`, a text, and `standard`, two numbers.

    Args:
        limit_s: seconds that it may take to load.
    """
    return ask(_LIBRARY, limit_s)


def short(library: str) -> str:
    """The name and version at the beginning of what a library says of itself."""
    first = library.splitlines()[0] if library else ""
    return re.sub(r"\s+", " ", first.partition(",")[0].replace("Version:", ""))
