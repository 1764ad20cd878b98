"""How busy this machine is, and the processes of a training on it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from distrain.memory import memory, resident

_GONE = {"state": "gone", "busy": None, "memory": None}
_TICKS = os.sysconf("SC_CLK_TCK")  # a second has


class Machine:
    """Looks at processors and memory; speeds are means since the look before.

    Args:
        proc: where the system describes its processes.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._host = socket.gethostname()
        self._is_known = (proc / "self" / "stat").exists()  # elsewhere nobody is gone because there is no file
        self._before = self._processors()
        self._processes: dict[int, tuple[float, float]] = {}  # by pid: when, and seconds of processor until then

    def look(self, ranks: Iterable[dict[str, Any]]) -> dict[str, Any]:
        """What this machine does now.

        Args:
            ranks: as in `ranks.json`; of those that run on this machine the processes are looked at.

        Returns:
            "host", "cores", "busy" (share of the cores, None if it is not known), "load" (means over 1, 5 and 15
            minutes), "memory" ("total" and "available" bytes, or None) and "processes": by pid, as text, "state"
            ("running", "stopped" or "gone"), "busy" (in cores, or None) and "memory" (bytes, or None).
        """
        now = self._processors()
        idle, all_of_it = (after - before for after, before in zip(now, self._before, strict=True))
        self._before = now
        told = memory(self._proc)
        here = [one["pid"] for one in ranks if one["host"] == self._host and one["pid"] > 0]
        processes = {str(pid): self._process(pid) for pid in here} if self._is_known else {}
        self._processes = {pid: seen for pid, seen in self._processes.items() if str(pid) in processes}
        return {
            "host": self._host,
            "cores": os.cpu_count(),
            "busy": max(0.0, 1 - idle / all_of_it) if all_of_it > 0 else None,
            "load": list(os.getloadavg()),
            "memory": None if told is None else {"total": told.total, "available": told.available},
            "processes": processes,
        }

    def _processors(self) -> tuple[int, int]:
        """Ticks of all cores since the machine was started: idle ones, and all."""
        try:
            with open(self._proc / "stat", encoding="ascii") as stream:
                ticks = [int(word) for word in stream.readline().split()[1:9]]  # what follows is in these already
        except (OSError, ValueError):
            return 0, 0
        return sum(ticks[3:5]), sum(ticks)

    def _process(self, pid: int) -> dict[str, Any]:
        try:
            after_name = (self._proc / str(pid) / "stat").read_text().rpartition(")")[2].split()
            used = (int(after_name[11]) + int(after_name[12])) / _TICKS
        except (OSError, ValueError, IndexError):
            return dict(_GONE)
        if after_name[0] in "ZXx":  # ended, and nobody has asked how
            return dict(_GONE)
        now = time.monotonic()
        then, before = self._processes.get(pid, (now, used))
        self._processes[pid] = (now, used)
        busy = (used - before) / (now - then) if now > then else None
        state = "stopped" if after_name[0] in "Tt" else "running"
        return {"state": state, "busy": busy, "memory": resident(pid, self._proc)}
