"""Asks a fresh interpreter, which may crash or hang where this one must not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from distrain.env import without_launcher
from distrain_launch.report import signal_name

_LAST_LINES = 3
_WHERE = ("Traceback ", "  ")  # of no use to who knows what was asked


@dataclass(frozen=True, slots=True)
class Answer:
    """What the interpreter said.

    Attributes:
        values: by name, what it found out before it ended.
        failure: how it failed; empty if it did not.
    """

    values: dict[str, Any] = field(default_factory=dict)
    failure: str = ""


def ask(code: str, limit_s: float) -> Answer:
    """Runs code that calls `tell(name, value)`.

    Args:
        code: what to run. It is no rank, even if this process is one.
        limit_s: seconds after which it is killed.
    """
    program = (
        "import json, os, sys\n"
        "out = os.fdopen(os.dup(1), 'w')\n"  # what libraries print goes elsewhere
        "os.dup2(2, 1)\n"
        "def tell(name, value):\n"
        "    print(json.dumps([name, value]), file=out, flush=True)\n"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-W", "ignore", "-c", program + code],
            env=without_launcher(os.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired as error:
        return Answer(_values(error.stdout or b""), f"it was not over after {limit_s:g} s")
    except OSError as error:
        return Answer({}, f"{sys.executable} cannot be run: {error}")
    return Answer(_values(done.stdout), _failure(done.returncode, done.stderr))


def _values(out: bytes) -> dict[str, Any]:
    whole = out[: out.rfind(b"\n") + 1]
    return dict(json.loads(line) for line in whole.splitlines())


def _failure(code: int, err: bytes) -> str:
    if code == 0:
        return ""
    how = f"it ended with exit code {code}" if code > 0 else f"it was ended by {signal_name(-code)}"
    lines = [line for line in err.decode(errors="replace").strip().splitlines() if not line.startswith(_WHERE)]
    return "\n".join([how, *lines[-_LAST_LINES:]])
