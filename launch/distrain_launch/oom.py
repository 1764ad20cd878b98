"""Whether the kernel killed a process for want of memory. Standard library only: see keeper.py.

The kernel counts such kills for each control group, and for the whole machine. It counts before it kills, so the end of
a rank is never seen before the count.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

_NO_LIMIT = 1 << 60  # how version 1 of control groups says "none"


class Watch:
    """Looks at the counts from now on.

    Args:
        proc: where the system describes its processes.
        groups: where it describes its control groups.
    """

    def __init__(self, proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> None:
        self.path, self.folders, self.is_v2 = _group(proc, groups)
        name = "memory.events" if self.is_v2 else "memory.oom_control"
        self.files = [*(folder / name for folder in self.folders), proc / "vmstat"]  # the last counts for all groups
        self.before = self._kills()

    def _kills(self) -> int | None:
        """How many there were, as the first file says that is there: that of the group itself, if it can be seen."""
        for file in self.files:
            with suppress(OSError):
                for line in file.read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return None

    def verdict(self) -> str:
        """What is known of a process of this control group that SIGKILL has ended; empty if nothing is."""
        after = self._kills()
        if after is None or self.before is None:
            return ""
        if after == self.before:
            return "not by the kernel for want of memory, so by somebody, or by the batch system"
        cause = "the kernel killed it because memory ran out (OOM)"
        limits = [limit for folder in self.folders if (limit := self._limit(folder)) is not None]
        return f"{cause}; its control group {self.path} may have {min(limits) / 2**20:.0f} MiB" if limits else cause

    def _limit(self, folder: Path) -> int | None:
        try:
            text = (folder / ("memory.max" if self.is_v2 else "memory.limit_in_bytes")).read_text().strip()
        except OSError:
            return None
        return int(text) if text.isdigit() and int(text) < _NO_LIMIT else None


def _group(proc: Path, groups: Path) -> tuple[str, list[Path], bool]:
    """The memory control group of this process: name, its folder and those above it, whether it is version 2."""
    with suppress(OSError):
        lines = [line.split(":", 2) for line in (proc / "self" / "cgroup").read_text().splitlines()]
        v1 = [path for _, controllers, path in lines if "memory" in controllers.split(",")]
        for path in v1 or [path for _, controllers, path in lines if not controllers]:
            base = groups / "memory" if v1 else groups
            own = base / path.lstrip("/")
            # In a container that sees its own group as the root that folder is not there.
            return path, [folder for folder in (own, *own.parents) if folder.is_relative_to(base)], not v1
    return "", [], False
