"""What this machine has for ranks: cores that this process may use, and GPUs. Read from the system, nothing is started.

The functions that read take the place to read from, so that any machine can be described by a few files.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from distrain.errors import LaunchError

_NVIDIA_SMI_TIMEOUT_S = 60  # without its daemon the driver starts anew, which takes seconds a GPU
_NO_LIMIT = 2**60  # bytes; the older control groups write a number above it


@dataclass(frozen=True, slots=True, order=True)
class Cpu:
    """A processor as the operating system counts them.

    Attributes:
        node: NUMA node.
        core: the physical core, by the lowest of its processors.
        number: the processor.
    """

    node: int
    core: int
    number: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU or a part of one (MIG).

    Attributes:
        device: how CUDA_VISIBLE_DEVICES names it: a number, or a UUID.
        label: how people name it.
        node: NUMA node; None if it is not known.
    """

    device: str
    label: str
    node: int | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """One machine.

    Attributes:
        cpus: processors this process may run on.
        quota: processors' worth of time that the container or job may use; None where it is not limited.
        gpus: GPUs this process may use.
    """

    cpus: tuple[Cpu, ...]
    quota: float | None = None
    gpus: tuple[Gpu, ...] = ()

    @classmethod
    def here(cls, environ: Mapping[str, str] = os.environ, may_lack: bool = False) -> Hardware:
        """This machine, as this process may use it.

        Args:
            environ: of this process.
            may_lack: GPUs that CUDA_VISIBLE_DEVICES names may be missing.

        Raises:
            LaunchError: CUDA_VISIBLE_DEVICES names a GPU that is not there.
        """
        return cls(_cpus(), _quota(), visible_gpus(_all_gpus(), environ.get("CUDA_VISIBLE_DEVICES"), may_lack))

    @property
    def cores(self) -> int:
        """Physical cores, as far as the quota allows; at least 1."""
        count = len({cpu.core for cpu in self.cpus})
        return max(1, count if self.quota is None else min(count, int(self.quota)))


def _cpus() -> tuple[Cpu, ...]:
    if sys.platform == "linux":
        return cpus(os.sched_getaffinity(0), Path("/sys/devices/system"))
    return cpus(range(os.cpu_count() or 1), Path("/nowhere"))


def cpus(numbers: Iterable[int], system: Path) -> tuple[Cpu, ...]:
    """The processors of these numbers, from the files below /sys/devices/system; what is not told is one node."""
    nodes = {
        number: int(folder.name.removeprefix("node"))
        for folder in system.glob("node/node[0-9]*")
        for number in _numbers(_text(folder / "cpulist"))
    }
    found = []
    for number in numbers:
        siblings = _numbers(_text(system / f"cpu/cpu{number}/topology/thread_siblings_list"))
        found.append(Cpu(nodes.get(number, 0), min(siblings, default=number), number))
    return tuple(sorted(found))


def _numbers(text: str) -> list[int]:
    """The numbers of a list such as `0-3,8`."""
    parts = [part.partition("-") for part in text.strip().split(",") if part]
    return [number for first, _, last in parts for number in range(int(first), int(last or first) + 1)]


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _quota() -> float | None:
    return quota(_text(Path("/proc/self/cgroup")), Path("/sys/fs/cgroup"))


def quota(groups: str, root: Path) -> float | None:
    """The lowest limit on processor time of a control group and those around it, in processors.

    Args:
        groups: the text of /proc/self/cgroup.
        root: where control groups are mounted.
    """
    return _lowest(groups, root, "cpu", _limit_v2, _limit_v1)


def memory_limit(groups: str, root: Path) -> int | None:
    """The lowest limit on memory of a control group and those around it, in bytes; arguments as of `quota`."""
    return _lowest(groups, root, "memory", _memory_v2, _memory_v1)


_Number = TypeVar("_Number", int, float)


def _lowest(
    groups: str,
    root: Path,
    controller: str,
    read_v2: Callable[[Path], _Number | None],
    read_v1: Callable[[Path], _Number | None],
) -> _Number | None:
    limits: list[_Number | None] = []
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        is_v2 = number == "0"
        if not is_v2 and controller not in controllers.split(","):
            continue
        base = root if is_v2 else root / controller
        read = read_v2 if is_v2 else read_v1
        own: Path = base / path.lstrip("/")  # not there in a container that sees its own group as the root
        limits += [read(folder) for folder in (own, *own.parents) if folder.is_relative_to(base)]
    return min((limit for limit in limits if limit is not None), default=None)


def _limit_v2(group: Path) -> float | None:
    time, _, period = _text(group / "cpu.max").strip().partition(" ")
    return int(time) / int(period) if time.isdigit() and period.isdigit() else None


def _limit_v1(group: Path) -> float | None:
    time, period = _text(group / "cpu.cfs_quota_us").strip(), _text(group / "cpu.cfs_period_us").strip()
    return int(time) / int(period) if time.isdigit() and period.isdigit() else None


def _memory_v2(group: Path) -> int | None:
    limit = _text(group / "memory.max").strip()
    return int(limit) if limit.isdigit() else None


def _memory_v1(group: Path) -> int | None:
    limit = _text(group / "memory.limit_in_bytes").strip()
    return int(limit) if limit.isdigit() and int(limit) < _NO_LIMIT else None


def _all_gpus() -> tuple[Gpu, ...]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    buses = _ask(program, "--query-gpu=uuid,pci.bus_id", "--format=csv,noheader")
    return listed_gpus(_ask(program, "-L"), buses, Path("/sys/bus/pci/devices"))


def _ask(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_NVIDIA_SMI_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LaunchError(
            f"{' '.join(command)} on {socket.gethostname()} failed: {error}. Mend the driver, or train on the CPU with "
            "CUDA_VISIBLE_DEVICES set to nothing."
        ) from error
    return done.stdout if done.returncode == 0 else ""  # it is installed, but there is no GPU or no driver


_GPU = re.compile(r"GPU (\d+): .*\(UUID: (GPU-[^)]+)\)")
_MIG = re.compile(r"\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)")


def listed_gpus(listing: str, buses: str, devices: Path) -> tuple[Gpu, ...]:
    """The GPUs that `nvidia-smi -L` lists; one that is divided (MIG) is replaced by its parts.

    They are named by UUID, because CUDA counts in another order than nvidia-smi.

    Args:
        listing: what it printed.
        buses: lines of `UUID, PCI address`.
        devices: where the system keeps what it knows of PCI devices.
    """
    addresses = dict(line.split(", ") for line in buses.splitlines() if line.count(", ") == 1)
    gpus: list[Gpu] = []
    whole: Gpu | None = None
    for line in listing.splitlines():
        if found := _GPU.match(line):
            whole = Gpu(found[2], found[1], _node(addresses.get(found[2], ""), devices))
            gpus.append(whole)
        elif whole is not None and (found := _MIG.match(line)):
            if gpus[-1] is whole:
                gpus.pop()
            gpus.append(Gpu(found[3], f"{whole.label}:{found[2]} ({found[1]})", whole.node))
    return tuple(gpus)


def _node(address: str, devices: Path) -> int | None:
    domain, _, rest = address.strip().lower().partition(":")  # 00000000:3B:00.0, where the system writes 0000:3b:00.0
    text = _text(devices / f"{domain[-4:]}:{rest}" / "numa_node").strip()
    return int(text) if text.isdigit() else None  # -1: the machine does not tell


def visible_gpus(gpus: tuple[Gpu, ...], visible: str | None, may_lack: bool = False) -> tuple[Gpu, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order.

    Names are passed on as they are written there. Those of a machine that does not say what it has are believed.

    Args:
        gpus: of the machine.
        visible: the variable.
        may_lack: a GPU that is missing is left out.

    Raises:
        LaunchError: a name that no GPU has, or one GPU twice.
    """
    if visible is None:
        return gpus
    names = device_names(visible)
    if len(set(names)) < len(names):
        raise LaunchError(f"CUDA_VISIBLE_DEVICES={visible} names a GPU twice. Name each GPU once.")
    found = [(name, _named(name, gpus)) for name in names]
    lacking = [name for name, gpu in found if gpu is None]
    if lacking and not may_lack:
        there = ", ".join(f"{gpu.label} ({gpu.device})" for gpu in gpus)
        raise LaunchError(
            f"CUDA_VISIBLE_DEVICES={visible} names GPU {lacking[0]}, which {socket.gethostname()} does not have or "
            f"does not give to this process. There are: {there}."
        )
    return tuple(gpu for _, gpu in found if gpu is not None)


def device_names(visible: str) -> tuple[str, ...]:
    """The devices in the text of CUDA_VISIBLE_DEVICES."""
    names = tuple(name.strip() for name in visible.split(","))
    return () if names[0] in ("", "-1", "NoDevFiles") else names  # the ways to say "none"; the last one is Slurm's


def _named(name: str, gpus: tuple[Gpu, ...]) -> Gpu | None:
    if not gpus:
        return Gpu(name, name)
    if name.isdigit():  # in CUDA's order, which is not that of nvidia-smi: nothing else is known of it
        whole = {gpu.label.partition(":")[0] for gpu in gpus}
        if int(name) < len(whole):
            return Gpu(name, name)
    known = [gpu for gpu in gpus if gpu.device.startswith(name)]
    if name.startswith(("GPU-", "MIG-")) and len(known) == 1:
        return Gpu(name, known[0].label, known[0].node)
    return None
