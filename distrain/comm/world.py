"""The job's world: all ranks of the job, as the environment and MPI agree on it."""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from distrain import reproducible, rng
from distrain.comm import failure
from distrain.comm.communicator import Communicator
from distrain.comm.kinds import chosen_kind
from distrain.comm.local import LocalCommunicator
from distrain.comm.mpi import MpiCommunicator
from distrain.comm.topology import core_share
from distrain.comm.watch import Watch
from distrain.env import THREAD_VARIABLES, RankInfo, rank_info
from distrain.errors import WorldError

_lock = threading.Lock()
_local = LocalCommunicator()
_worlds: list[Communicator] = []
_shares: list[int] = []  # this rank's cores, once MPI has started


def local() -> Communicator:
    """The communicator of this process alone, whatever the job."""
    return _local


def world() -> Communicator:
    """The communicator of all ranks of the job.

    The first call starts MPI if the environment says that there are several ranks; then it is a collective, from
    which on the failure of one rank ends the job, and the threads of BLAS are limited to the rank's share of the
    cores unless the user chose their number. A process that was started alone never touches MPI.

    Raises:
        WorldError: the launcher and MPI contradict each other, or mpi4py is missing.
        ArgumentError: DISTRAIN_COMM names no communicator.
        DeviceError: it names NCCL or GPUs, which this rank does not have.
    """
    with _lock:
        if not _worlds:
            info = rank_info()
            _worlds.append(_start(info) if info.size > 1 else _alone())
        return _worlds[0]


def _alone() -> Communicator:
    started = sys.modules.get("mpi4py.MPI")
    if started is not None and started.Is_initialized() and not started.Is_finalized():
        size = started.COMM_WORLD.Get_size()
        if size > 1:
            raise WorldError(
                f"MPI.COMM_WORLD has {size} ranks, but no variable of a known launcher is set. Start the ranks with "
                "mpiexec or srun; known are those of Open MPI, MPICH, Intel MPI and Slurm."
            )
    return _local


def _start(info: RankInfo) -> MpiCommunicator:
    mpi = _load_mpi(info)
    library = mpi.Get_library_version().strip("\0 \n")
    if not mpi.Is_initialized():  # the wrong MPI may end the process inside MPI_Init, so ask before
        if _are_strangers(info, library):
            raise _mismatch(info, library, "belongs to another MPI")
        mpi.Init_thread(mpi.THREAD_MULTIPLE)
    rank, size = mpi.COMM_WORLD.Get_rank(), mpi.COMM_WORLD.Get_size()
    if (rank, size) != (info.rank, info.size):
        raise _mismatch(info, library, f"MPI.COMM_WORLD says rank {rank} of {size}")
    comm = MpiCommunicator(mpi.COMM_WORLD.Dup(), chosen_kind())
    _unlink_shared_memory()
    watching = None
    if mpi.Query_thread() == mpi.THREAD_MULTIPLE:
        watching = Watch(mpi.COMM_WORLD.Dup(), comm.hosts)
    failure.install(comm, watching)
    _limit_threads(comm)
    return comm


def _unlink_shared_memory(maps: Path = Path("/proc/self/maps")) -> None:
    """Takes the names of MPICH's shared memory away, once all ranks have mapped it.

    MPICH itself does so at its end, which a killed rank never comes to. The memory would be taken until the machine
    restarts; and since the names are made of the numbers of Slurm's job and step, a job that is started again under its
    number can meet the old file, and end in MPI_Init with "Out of memory".
    """
    with suppress(OSError):  # no Linux
        for path in set(re.findall(r" (/dev/shm/mpich_shm_\w+)$", maps.read_text(), re.MULTILINE)):
            with suppress(FileNotFoundError):  # another rank was faster
                os.unlink(path)


def _load_mpi(info: RankInfo) -> Any:
    try:
        import mpi4py

        if "mpi4py.MPI" not in sys.modules:
            mpi4py.rc.initialize = False
            mpi4py.rc.finalize = False  # see failure.py: only when all ranks have come to the end
        with warnings.catch_warnings():  # the same suspicion is an error here, with what to do about it
            warnings.filterwarnings("ignore", "(?s).*suspicious MPI execution environment", RuntimeWarning)
            from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise WorldError(
            f"this process is rank {info.rank} of {info.size} ({info.launcher}), but mpi4py cannot be used by "
            f"{sys.executable}: {error}. Install it with an MPI, `pip install distrain[mpich]`, or for the MPI of this "
            "machine, `pip install distrain[mpi]`."
        ) from error
    return MPI


def _are_strangers(info: RankInfo, library: str) -> bool:
    is_open_mpi = "Open MPI" in library
    if info.launcher == "openmpi":
        return not is_open_mpi and any(name in library for name in ("MPICH", "Intel(R) MPI", "MVAPICH"))
    return info.launcher == "hydra" and is_open_mpi and "SLURM_STEP_ID" not in os.environ  # srun serves both


_MENDS = {
    "slurm": "Start the ranks with the plugin that this MPI understands (`srun --mpi=list` names them; pmi2 for "
    "MPICH, pmix for Open MPI), or with its own mpiexec inside the allocation.",
    "openmpi": "",
    "hydra": "",
}


def _mismatch(info: RankInfo, library: str, other_side: str) -> WorldError:
    starter = {"openmpi": "mpiexec of Open MPI", "hydra": "mpiexec of MPICH or Intel MPI", "slurm": "srun"}[
        info.launcher
    ]
    first_line = library.splitlines()[0]
    beside = os.path.join(os.path.dirname(sys.executable), "mpiexec")
    own = f"{beside} -n {info.size} …" if os.path.exists(beside) else "the mpiexec that was installed with it"
    mend = _MENDS[info.launcher] or (
        f"Use the mpiexec of the MPI that mpi4py loads: `distrain run -n {info.size} …` finds it, or call {own}"
        "; or install mpi4py for the other MPI (`pip install distrain[mpich]` or `distrain[openmpi]`)."
    )
    return WorldError(
        f"the launcher and mpi4py do not belong together (host {socket.gethostname()}, pid {os.getpid()}):\n"
        f"  {starter} says: rank {info.rank} of {info.size}\n"
        f"  mpi4py in {sys.executable}: {other_side} ({first_line})\n"
        f"{mend}"
    )


def cores() -> int:
    """How many cores of its node are this rank's, at least 1; asks for the world first."""
    comm = world()
    return _shares[0] if comm.size > 1 else len(_usable_cores())


def _limit_threads(comm: MpiCommunicator) -> None:
    every = comm.allgather_obj(_usable_cores())
    _shares.append(core_share(comm.rank, comm.hosts, every))
    if reproducible.shards() or any(os.environ.get(name) for name in THREAD_VARIABLES):
        return
    from threadpoolctl import threadpool_limits

    threadpool_limits(_shares[0], user_api="blas")


def _usable_cores() -> frozenset[int]:
    if sys.platform == "linux":
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _seed_of_rank_0(drawn: int) -> int:
    return drawn if rank_info().size == 1 else int(world().bcast_obj(drawn))


rng.share_through(_seed_of_rank_0)
failure.watch_start()
