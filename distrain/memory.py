"""How much memory this machine, or this process's share of it, has; where Linux says so in /proc and /sys."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_GROUPS = Path("/sys/fs/cgroup")
_NO_LIMIT = 1 << 60  # how version 1 of control groups says "none"
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Memory:
    """The memory that is to be had.

    Attributes:
        total: bytes, of the machine or of the tightest control group, whichever is less.
        available: of these, bytes that could still be had now.
    """

    total: int
    available: int


def memory(proc: Path = _PROC, groups: Path = _GROUPS) -> Memory | None:
    """What there is now; None where the system does not say.

    Args:
        proc: where the system describes its processes.
        groups: where it describes its control groups.
    """
    told = _pairs(proc / "meminfo")
    total, available = told.get("MemTotal:", 0) * 1024, told.get("MemAvailable:", 0) * 1024
    if not total:
        return None
    for limit, used in _limits(proc, groups):
        total, available = min(total, limit), min(available, max(0, limit - used))
    return Memory(total, available)


def resident(pid: int | str = "self", proc: Path = _PROC) -> int | None:
    """Bytes of memory in which a process resides; None if there is none, or the system does not say."""
    try:
        return int((proc / str(pid) / "statm").read_text().split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return None


def _limits(proc: Path, groups: Path) -> Iterator[tuple[int, int]]:
    """The limit of each control group that this process is in, and what counts as used there: not the cached files."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        base = groups / "memory" if controllers else groups
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit_name, used_name, cache_name = names if controllers else ("memory.max", "memory.current", "inactive_file")
        own = base / path.lstrip("/")  # not there in a container that sees its own group as the root
        for folder in (own, *own.parents):
            limit, used = _text(folder / limit_name).strip(), _text(folder / used_name).strip()
            if folder.is_relative_to(base) and limit.isdigit() and used.isdigit() and int(limit) < _NO_LIMIT:
                yield int(limit), max(0, int(used) - _pairs(folder / "memory.stat").get(cache_name, 0))


def _pairs(path: Path) -> dict[str, int]:
    """The first two words of each line, if the second is a number."""
    words = [line.split() for line in _text(path).splitlines()]
    return {one[0]: int(one[1]) for one in words if len(one) > 1 and one[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
