"""What the ranks of a training do: the file that rank 0 writes about them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

STATES = ("running", "silent", "failed", "done")
PHASES = ("data", "forward", "backward", "exchange", "update")
_NBYTES = 16 << 20  # 16384 ranks take 5 MB


def read_ranks(path: Path, problems: list[str]) -> dict[str, Any] | None:
    """Reads `ranks.json`, and leaves nothing in it but what a page can show.

    Args:
        path: of the file.
        problems: gets a sentence if the file cannot be read.

    Returns:
        None if there is no such file, or none that can be read. Otherwise "time" (seconds since 1970, when it was
        written), "world" (number of ranks) and "ranks": a list of objects with "rank", "host", "pid", "iteration",
        "phase", "seen" (seconds since 1970), "state" (one of `STATES`), "time" (seconds by phase, of `PHASES`) and
        "failure" (text or None).
    """
    try:
        if path.stat().st_size > _NBYTES:
            problems.append(f"{path.name} is left out: it has more than {_NBYTES:,} bytes.")
            return None
        told = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{path.name} cannot be read: {error}.")
        return None
    if not isinstance(told, dict) or not isinstance(told.get("ranks"), list):
        problems.append(f'{path.name} has no list "ranks".')
        return None
    ranks = [_rank(one) for one in told["ranks"] if isinstance(one, dict)]
    world = int(_number(told.get("world"), len(ranks)))
    return {"time": _number(told.get("time")), "world": world, "ranks": sorted(ranks, key=lambda one: one["rank"])}


def _rank(told: dict[str, Any]) -> dict[str, Any]:
    time = told.get("time")
    state, failure = told.get("state"), told.get("failure")
    return {
        "rank": int(_number(told.get("rank"))),
        "host": str(told.get("host", "")),
        "pid": int(_number(told.get("pid"))),
        "iteration": int(_number(told.get("iteration"))),
        "phase": str(told.get("phase") or ""),
        "seen": _number(told.get("seen")),
        "state": state if state in STATES else "silent",
        "time": {phase: _number(time.get(phase)) for phase in PHASES} if isinstance(time, dict) else {},
        "failure": None if failure is None else str(failure),
    }


def _number(value: Any, otherwise: float = 0.0) -> float:
    """The value if it is a finite number that a float can hold."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= 1e300:
        return otherwise
    return value if math.isfinite(value) else otherwise
