"""How many ranks, and what each of them gets: GPU, cores, threads. Pure: from a description to a description.

GPUs          a rank a GPU. Each rank sees its own GPU only, which is number 0 to it.
no GPUs       a rank a core, eight at most, so that a minibatch of usual size has work for each.
threads       the cores of the machine are shared out evenly; BLAS is told before the interpreter starts.
NUMA nodes    where there are several, a rank stays on a part of the cores: next to its GPU, or next to its memory.
              On one node nothing is gained by it, and two jobs on one machine would get in each other's way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from distrain.env import THREAD_VARIABLES
from distrain.errors import LaunchError
from distrain_launch.hardware import Cpu, Gpu, Hardware

MOST_ON_CPU = 8


@dataclass(frozen=True, slots=True)
class Place:
    """What one rank gets.

    Attributes:
        gpu: the GPU it sees; None: all that the launcher sees.
        cores: numbers of the processors it stays on; empty: all that the launcher may use.
        threads: threads of BLAS.
    """

    gpu: Gpu | None
    cores: tuple[int, ...]
    threads: int

    def variables(self, environ: Mapping[str, str]) -> dict[str, str]:
        """What the rank finds in its environment.

        Args:
            environ: the environment of the launcher. Who chose a number of threads there keeps it.
        """
        variables = {}
        if not any(environ.get(name) for name in THREAD_VARIABLES):
            variables = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        if self.gpu is not None:
            variables["CUDA_VISIBLE_DEVICES"] = self.gpu.device
        return variables


def choose(hardware: Hardware, has_mpi: bool) -> tuple[int, str]:
    """How many ranks a machine has work for, and why.

    Args:
        hardware: the machine.
        has_mpi: whether more than one rank can be started at all.
    """
    gpus, cores = hardware.gpus, hardware.cores
    if len(gpus) == 1:
        return 1, f"there is one GPU ({gpus[0].label})"
    if not gpus and cores == 1:
        return 1, "there is no GPU and one core"
    if not has_mpi:
        return 1, "mpi4py is not installed; `pip install distrain[mpich]` for more"
    if gpus:
        return len(gpus), f"one for each GPU ({', '.join(gpu.label for gpu in gpus)})"
    if cores <= MOST_ON_CPU:
        return cores, "one for each core; there is no GPU"
    return MOST_ON_CPU, f"{MOST_ON_CPU} at most share the {cores} cores; there is no GPU"


def places(hardware: Hardware, ranks: int, all_gpus: bool = False) -> list[Place]:
    """What each rank of a machine gets, in their order.

    Args:
        hardware: the machine.
        ranks: how many run on it.
        all_gpus: every rank sees every GPU, and the script chooses.

    Raises:
        LaunchError: there are GPUs, but fewer than ranks.
    """
    gpus = hardware.gpus
    if ranks == 1 or all_gpus or not gpus:
        chosen: Sequence[Gpu | None] = [None] * ranks
    elif ranks <= len(gpus):
        chosen = gpus[:ranks]
    else:
        raise LaunchError(
            f"{ranks} ranks, but {len(gpus)} GPU{'s' * (len(gpus) > 1)} ({', '.join(gpu.label for gpu in gpus)}). Take "
            f"-n {len(gpus)}; or, to train on the CPU, set CUDA_VISIBLE_DEVICES to nothing; or give --all-gpus, with "
            "which every rank sees every GPU and the script chooses."
        )
    bound = _shares_of_nodes(hardware, chosen)
    even = max(1, hardware.cores // ranks)
    return [
        Place(gpu, tuple(sorted(cpu.number for cpu in cpus)), len({cpu.core for cpu in cpus}) or even)
        for gpu, cpus in zip(chosen, bound, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Room:
    """What another host has for its ranks.

    Attributes:
        host: its name.
        cores: physical cores that they may use.
        gpus: GPUs as CUDA names them.
        is_bound: each rank may have been given its own GPUs already.
        own: cores that the rank has for itself; None: all its ranks share those of the host.
    """

    host: str
    cores: int
    gpus: tuple[str, ...] = ()
    is_bound: bool = False
    own: int | None = None


def place_in(room: Room, intra_rank: int | None, intra_size: int | None, all_gpus: bool = False) -> Place:
    """What a rank of another host gets: a GPU of its own, and threads. It stays where its starter has put it.

    Args:
        room: the host, as the rank sees it.
        intra_rank, intra_size: which of how many ranks of that host; None: who starts them does not tell.
        all_gpus: every rank sees every GPU, and the script chooses.

    Raises:
        LaunchError: there are GPUs, but fewer than ranks.
    """
    ranks = intra_size or 1
    threads = room.own or max(1, room.cores // ranks)
    if intra_rank is None or ranks == 1 or all_gpus or not room.gpus:
        return Place(None, (), threads)
    if ranks > len(room.gpus):
        if room.is_bound:
            return Place(None, (), threads)
        raise LaunchError(
            f"{ranks} ranks on {room.host}, but {len(room.gpus)} GPU{'s' * (len(room.gpus) > 1)} "
            f"({', '.join(room.gpus)}). Put fewer ranks there; or, to train on the CPU, set CUDA_VISIBLE_DEVICES to "
            "nothing; or give --all-gpus, with which every rank sees every GPU and the script chooses."
        )
    name = room.gpus[intra_rank]
    return Place(Gpu(name, name), (), threads)


def _shares_of_nodes(hardware: Hardware, gpus: Sequence[Gpu | None]) -> list[list[Cpu]]:
    """The processors each rank stays on; none: it is left alone."""
    nodes = {cpu.node for cpu in hardware.cpus}
    count = len(gpus)
    if len(nodes) == 1 or count == 1 or hardware.quota is not None:  # a quota gives time, not certain cores
        return [[] for _ in gpus]
    near = [gpu.node if gpu is not None and gpu.node in nodes else None for gpu in gpus]
    if None in near:
        return _split(hardware.cpus, count)
    shares: list[list[Cpu]] = [[] for _ in gpus]
    for node in set(near):
        mates = [rank for rank in range(count) if near[rank] == node]
        parts = _split([cpu for cpu in hardware.cpus if cpu.node == node], len(mates))
        for rank, part in zip(mates, parts, strict=True):
            shares[rank] = part
    return shares


def _split(cpus: Sequence[Cpu], count: int) -> list[list[Cpu]]:
    """Contiguous parts of whole cores, as even as they can be; none where there are fewer cores than parts."""
    cores = sorted({(cpu.node, cpu.core) for cpu in cpus})
    if len(cores) < count:
        return [[] for _ in range(count)]
    edges = [len(cores) * i // count for i in range(count + 1)]
    parts = [set(cores[edges[i] : edges[i + 1]]) for i in range(count)]
    return [[cpu for cpu in cpus if (cpu.node, cpu.core) in part] for part in parts]
