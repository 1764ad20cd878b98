"""Which job this process belongs to, and how often that has been started again, as its environment says.

    DISTRAIN_JOB       name of the job, the same in all of its attempts; without it nothing here is in force
    DISTRAIN_RESTART   number of this attempt, 0 for the first

`distrain run --max-restarts` sets them, and so do batch scripts that go back into the queue.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from distrain.errors import ArgumentError

JOB, ATTEMPT = "DISTRAIN_JOB", "DISTRAIN_RESTART"


def job(environ: Mapping[str, str] = os.environ) -> str | None:
    """The name of the job that may be started again; None: this one is not."""
    return environ.get(JOB) or None


def is_on(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the job may be started again, so that its trainings continue by themselves."""
    return job(environ) is not None


def attempt(environ: Mapping[str, str] = os.environ) -> int:
    """How often the job has been started before.

    Raises:
        ArgumentError: the variable is no such number.
    """
    text = environ.get(ATTEMPT) or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ArgumentError(f"{ATTEMPT}={text!r}: expected how often the job has been started before, 0 or more")
    return int(text)
