"""Looks at the machine: cores, memory, GPUs, what `distrain run` would make of them, limits, and files.

Files are tried where trainings use them: in the working directory, in the folder for temporary files, and in memory.
"""

from __future__ import annotations

import fcntl
import importlib.util
import mmap
import os
import resource
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from distrain.env import THREAD_VARIABLES
from distrain.errors import LaunchError
from distrain_launch import plan
from distrain_launch.finding import Finding, ok, problem, warning
from distrain_launch.hardware import Hardware, memory_limit

_MIB, _GIB = 2**20, 2**30
_MEMORY_OF_A_RANK = _GIB
_SHM = 256 * _MIB  # a container gets 64 MiB if nobody says otherwise
_DISK = _GIB
_FILES = 1024  # that a process may open; a rank with feeders on many hosts has some hundreds
_FEWEST_FILES = 64
_PROCESSES = 256  # threads count too
_ADAPTERS = Path("/sys/class/infiniband")
_LONGEST_SOCKET = 100  # bytes of its path


def findings() -> Iterator[Finding]:
    """What is found of this machine."""
    try:
        hardware = Hardware.here()
    except LaunchError as error:
        fact, _, remedy = str(error).partition(". ")
        yield problem("gpus", f"{fact}.", remedy or "Mend the driver, or set CUDA_VISIBLE_DEVICES to nothing.")
    else:
        yield _cores(hardware)
        yield _gpus(hardware)
        ranks, reason = plan.choose(hardware, importlib.util.find_spec("mpi4py") is not None)
        yield _memory(ranks)
        yield _plan(hardware, ranks, reason, os.environ)
    yield host_name(socket.gethostname())
    yield _open_files(*resource.getrlimit(resource.RLIMIT_NOFILE))
    yield _processes(resource.getrlimit(resource.RLIMIT_NPROC)[0])
    yield _file_size(resource.getrlimit(resource.RLIMIT_FSIZE)[0])
    if sys.platform == "linux":
        yield _shared_memory(Path("/dev/shm"))
        yield _memfd()
    yield forks(_ADAPTERS, os.environ)
    yield _temporary()
    yield from _working_directory()


def _cores(hardware: Hardware) -> Finding:
    there = os.cpu_count() or len(hardware.cpus)
    nodes = len({cpu.node for cpu in hardware.cpus})
    found = f"{hardware.cores} for this process ({len(hardware.cpus)} of {there} processors"
    if nodes > 1:
        found += f" on {nodes} NUMA nodes"
    if hardware.quota is not None:
        found += f"; a control group gives the time of {hardware.quota:g}"
    return ok("cores", f"{found})")


def _gpus(hardware: Hardware) -> Finding:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    given = "" if visible is None else f" (CUDA_VISIBLE_DEVICES={visible!r})"
    names = ", ".join(f"{gpu.label} ({gpu.device})" for gpu in hardware.gpus)
    return ok("gpus", f"{names or 'none'} for ranks{given}")


def _memory(ranks: int) -> Finding:
    told = _meminfo()
    limits = {"the machine": told.get("MemTotal"), "its control group": _group_limit()}
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    limits["ulimit -v"] = None if limit == resource.RLIM_INFINITY else limit
    known = {name: size for name, size in limits.items() if size is not None}
    if not known:
        return ok("memory", "the system does not tell")
    name = min(known, key=lambda name: known[name])
    found = f"{size(known[name])}, the limit of {name}"
    free = told.get("MemAvailable")
    least = known[name]
    if free is not None:
        found += f"; {size(free)} of the machine are free"
        least = min(least, free)
    if least < ranks * _MEMORY_OF_A_RANK:
        remedy = "Ask for more memory, or start fewer ranks (-n): a rank wants about 1 GiB, and what its model takes."
        return warning("memory", found, remedy)
    return ok("memory", found)


def _meminfo() -> dict[str, int]:
    """Sizes in bytes, as the system tells them."""
    path = Path("/proc/meminfo")
    lines = path.read_text().splitlines() if path.exists() else []
    parts = [line.split() for line in lines]
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in parts if words[-1] == "kB"}


def _group_limit() -> int | None:
    groups = Path("/proc/self/cgroup")
    return memory_limit(groups.read_text(), Path("/sys/fs/cgroup")) if groups.exists() else None


def size(nbytes: float) -> str:
    """A number of bytes for people."""
    return f"{nbytes / _GIB:.1f} GiB" if nbytes >= _GIB else f"{nbytes / _MIB:.0f} MiB"


def _plan(hardware: Hardware, ranks: int, reason: str, environ: Mapping[str, str]) -> Finding:
    """What `distrain run` would start, and with how many threads."""
    place = plan.places(hardware, ranks)[0]
    found = f"`distrain run` starts {ranks} rank{'s' * (ranks > 1)}: {reason}"
    chosen = {name: environ[name] for name in THREAD_VARIABLES if environ.get(name)}
    if not chosen:
        return ok("plan", f"{found}; {place.threads} BLAS thread{'s' * (place.threads > 1)} each")
    found += "; BLAS threads as " + ", ".join(f"{name}={value}" for name, value in chosen.items())
    most = max((int(value) for value in chosen.values() if value.isdigit()), default=1)
    if most > place.threads:
        remedy = f"Unset them, and each rank gets {place.threads}: more threads than cores slow all ranks down."
        return warning("plan", found, remedy)
    return ok("plan", found)


def _shared_memory(folder: Path) -> Finding:
    """Ranks of one machine talk through it; its size is what containers are short of."""
    more = "In a container, `docker run --shm-size=2g` or `--ipc=host`; else `mount -o remount,size=2g /dev/shm`."
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_MIB))
            file.flush()
        free, total = shutil.disk_usage(folder).free, shutil.disk_usage(folder).total
    except OSError as error:
        return problem("/dev/shm", f"cannot be written to: {error}", f"MPI needs it between ranks. {more}")
    found = f"{size(free)} of {size(total)} free"
    return ok("/dev/shm", found) if free >= _SHM else warning("/dev/shm", found, more)


def _memfd() -> Finding:
    """Files without a name, which feeders write samples to and ranks leave their last words in."""
    try:
        file = os.memfd_create("distrain doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(file, _MIB)
            with mmap.mmap(file, _MIB) as memory:
                memory[-1] = 1
            fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
        finally:
            os.close(file)
    except OSError as error:
        remedy = "Lift the limit that the message names, or what the sandbox forbids (memfd_create)."
        return problem("memfd", f"anonymous files do not work: {error}", remedy)
    return ok("memfd", "anonymous files can be made, mapped and sealed")


def host_name(name: str) -> Finding:
    """Whether this machine is found under its own name, by which MPI and PMIx look for it.

    Args:
        name: that it gives itself.
    """
    remedy = (
        f"Have the name of the machine and its entry in /etc/hosts or DNS agree: a line `ADDRESS {name}` in /etc/hosts "
        "with an address of this machine, or `hostname NAME` with the name by which others know it."
    )
    try:
        found = {info[4][0]: info[0] for info in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError) as error:
        return warning("host name", f"{name} is not known here: {error}; ranks may end in MPI_Init", remedy)
    addresses = ", ".join(map(str, found))
    if not any(_is_own(family, str(address)) for address, family in found.items()):
        fact = f"{name} leads to {addresses}, which is not this machine; ranks may end in MPI_Init"
        return warning("host name", fact, remedy)
    return ok("host name", f"{name}, at {addresses}")


def _is_own(family: int, address: str) -> bool:
    """Whether an address is of this machine: others cannot be listened at."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def forks(adapters: Path, environ: Mapping[str, str]) -> Finding:
    """Whether a rank may fork: memory that an adapter knows must not move to a child."""
    names = sorted(path.name for path in adapters.glob("*"))
    if not names:
        return ok("fork", "no InfiniBand adapter, so a script may fork")
    found = f"InfiniBand ({', '.join(names)})"
    chosen = [name for name in ("RDMAV_FORK_SAFE", "IBV_FORK_SAFE") if environ.get(name)]
    if chosen:
        return ok("fork", f"{found}, and {chosen[0]} is set")
    remedy = (
        "Set RDMAV_FORK_SAFE=1 if a script forks by itself, with multiprocessing for example. MultiprocessIterator "
        "does not need it: its feeders come from a process without MPI."
    )
    return warning("fork", f"{found}, and RDMAV_FORK_SAFE is not set: a rank that forks may read wrong data", remedy)


def _open_files(soft: int, hard: int) -> Finding:
    found = f"{_limit(soft)} (ulimit -n; {_limit(hard)} at most)"
    if soft == resource.RLIM_INFINITY or soft >= _FILES:
        return ok("open files", found)
    report = warning if soft >= _FEWEST_FILES else problem
    return report("open files", found, f"`ulimit -n {_FILES}` or more, before `distrain run`.")


def _limit(number: int) -> str:
    return "no limit" if number == resource.RLIM_INFINITY else str(number)


def _processes(soft: int) -> Finding:
    found = f"{_limit(soft)} of this user (ulimit -u)"
    if soft == resource.RLIM_INFINITY or os.geteuid() == 0:
        return ok("processes", found)
    there = _threads_of_the_user()
    found += f"; there are {there}"
    if soft - there >= _PROCESSES:
        return ok("processes", found)
    remedy = f"`ulimit -u {there + 2 * _PROCESSES}` or more: ranks, feeders and all their threads count."
    return warning("processes", found, remedy)


def _threads_of_the_user() -> int:
    """Processes and threads, as the limit counts them."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if folder.stat().st_uid == os.getuid():
                count += len(os.listdir(folder / "task"))
        except OSError:
            continue  # it has ended
    return count


def _file_size(soft: int) -> Finding:
    if soft == resource.RLIM_INFINITY:
        return ok("file size", "no limit (ulimit -f)")
    report = warning if soft >= _GIB else problem
    remedy = "`ulimit -f unlimited`: it counts for snapshots, and for the memory that feeders write samples to."
    return report("file size", f"{size(soft)} (ulimit -f)", remedy)


def _temporary() -> Finding:
    """The launcher and its keepers meet there."""
    try:
        folder = tempfile.gettempdir()
        with tempfile.TemporaryDirectory(prefix="distrain-") as own, socket.socket(socket.AF_UNIX) as meeting:
            path = os.path.join(own, "launcher")
            if len(os.fsencode(path)) < _LONGEST_SOCKET:  # the launcher takes /tmp for longer ones
                meeting.bind(path)
    except OSError as error:
        return problem("temporary", f"no folder for temporary files: {error}", "Set TMPDIR to one that can be used.")
    return ok("temporary", f"{folder}, sockets included")


def _working_directory() -> Iterator[Finding]:
    """What a training does with its results."""
    try:
        folder = Path.cwd()
        with tempfile.TemporaryDirectory(prefix=".distrain-doctor-", dir=folder) as own:
            _rename(Path(own))
            yield _locks(Path(own), folder)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        found = f"files cannot be written and renamed in the working directory: {error}"
        yield problem("directory", found, "Go to a folder that can be written to, or name one: Trainer(..., out=...).")
        return
    found = f"{folder}: files can be written and replaced in one step, {size(free)} free"
    if free < _DISK:
        yield warning("directory", found, "Make room: snapshots need it.")
    else:
        yield ok("directory", found)


def _rename(folder: Path) -> None:
    """Replaces a file by another one, as snapshots are written."""
    old, new = folder / "snapshot", folder / "snapshot.new"
    old.write_text("old")
    with new.open("w") as file:
        file.write("new")
        file.flush()
        os.fsync(file.fileno())
    os.replace(new, old)
    if old.read_text() != "new" or new.exists():
        raise OSError(f"after a file took the place of {old}, the old one is still there")


def _locks(folder: Path, place: Path) -> Finding:
    """Whether a lock keeps others out, as the one around a download does."""
    remedy = "Mount it with locks (NFS: without nolock; Lustre: -o flock), or put caches on a local disk."
    path = folder / "lock"
    with path.open("w") as first, path.open("w") as second:
        try:
            fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return warning("file locks", f"{place}: files cannot be locked: {error}", remedy)
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return ok("file locks", f"{place}: a lock keeps others out")
    return warning("file locks", f"{place}: a locked file can be locked again", remedy)
