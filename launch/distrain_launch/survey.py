"""What a keeper tells of its host where the launcher is on another one. Standard library only: see keeper.py.

It is asked for in a few milliseconds and starts nothing: no nvidia-smi, no CUDA.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def survey(command: Sequence[str]) -> dict[str, Any]:
    """The host as the launcher has to know it.

    Args:
        command: command line of the rank.

    Returns:
        cores, processors: physical cores, and processors as the system counts them, that this process may use.
        gpus: how many the machine has.
        visible: CUDA_VISIBLE_DEVICES, or None.
        folder: the working directory: path and inode, which is the same on all hosts that share it.
        missing: the script, if it is not there; else None.
    """
    folder = os.getcwd()
    return {
        "cores": _cores(),
        "processors": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        "gpus": len(list(Path("/proc/driver/nvidia/gpus").glob("*"))),
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "folder": [folder, os.stat(folder).st_ino],
        "missing": _missing(command),
    }


def _cores() -> int:
    if sys.platform != "linux":
        return os.cpu_count() or 1
    numbers = os.sched_getaffinity(0)
    files = [Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list") for number in numbers]
    return len({file.read_text() if file.exists() else str(file) for file in files})


def _missing(command: Sequence[str]) -> str | None:
    script = command[1] if len(command) > 1 else "-"
    return None if script.startswith("-") or Path(script).is_file() else script
