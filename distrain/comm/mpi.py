"""The communicator over MPI.

Every collective begins with a comparison of what each rank is about to do: one all-reduce of 16 bytes. So ranks that
come with different shapes, with different collectives, or that have left the script while others go on end in an
error that names them. MPI itself would mix up the data or wait for ever.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import os
import pickle
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from distrain import backend
from distrain.backend import Array
from distrain.comm import arguments
from distrain.comm.communicator import Communicator, Reduction
from distrain.comm.topology import position
from distrain.cuda import is_gpu_array
from distrain.errors import WorldError

FORWARD_S = 0.4  # MPICH's mpiexec may throw away what it has not yet forwarded when the job is aborted
_ABORT_S = 10.0
_REDUCE: dict[str, Callable[[Any, Any], Any]] = {"sum": operator.add, "max": max, "min": min}


class MpiCommunicator(Communicator):
    """A group of ranks that talk through MPI.

    Args:
        mpi_comm: an `mpi4py.MPI.Intracomm` that nobody else uses.
    """

    max_count = 2**30  # elements a call: MPI before 4.0 counts in 32-bit integers

    def __init__(self, mpi_comm: Any) -> None:
        from mpi4py import MPI

        self._mpi: Any = MPI
        self.mpi_comm = mpi_comm
        self.rank = mpi_comm.Get_rank()
        self.size = mpi_comm.Get_size()
        self._plan = np.empty(2, np.int64)
        self.hosts: list[str] = mpi_comm.allgather(socket.gethostname())
        here = position(self.rank, self.hosts)
        self.intra_rank, self.intra_size = here.intra_rank, here.intra_size
        self.inter_rank, self.inter_size = here.inter_rank, here.inter_size

    def allreduce(self, array: Array) -> None:
        """Replaces an array by its sum over the ranks, in place. Device arrays go through host memory."""
        arguments.check_summable(array)
        self._agree("allreduce", array.dtype.str, array.shape)
        if is_gpu_array(array):
            host = backend.to_cpu(array)
            self._sum(host)
            backend.copyto(array, host)
        else:
            self._sum(array)

    def _sum(self, array: NDArray[Any]) -> None:
        if array.dtype == np.float16:  # no MPI adds float16; rounding once is also more exact than once a rank
            wide = array.astype(np.float32, order="C")
            self._sum(wide)
            with np.errstate(over="ignore"):
                array[...] = wide
        elif not array.flags.c_contiguous:
            packed = np.ascontiguousarray(array)
            self._sum(packed)
            array[...] = packed
        elif array.dtype == np.bool_:
            self._reduce(array.reshape(-1).view(np.uint8), self._mpi.MAX)
        else:
            self._reduce(array.reshape(-1), self._mpi.SUM)

    def _reduce(self, flat: NDArray[Any], op: Any) -> None:
        for part in _parts(flat, self.max_count):
            self.mpi_comm.Allreduce(self._mpi.IN_PLACE, part, op)

    def bcast(self, array: Array, root: int = 0) -> None:
        """Overwrites an array with that of the root, in place. Device arrays go through host memory."""
        arguments.check_copyable(array)
        arguments.check_root(root, self.size)
        self._agree("bcast", array.dtype.str, array.shape, root)
        if not is_gpu_array(array) and array.flags.c_contiguous:
            self._send_bytes(array.reshape(-1).view(np.uint8), root)
            return
        packed = np.ascontiguousarray(backend.to_cpu(array))
        self._send_bytes(packed.reshape(-1).view(np.uint8), root)
        if self.rank != root:
            backend.copyto(array, packed)

    def _send_bytes(self, flat: NDArray[np.uint8], root: int) -> None:
        for part in _parts(flat, self.max_count):
            self.mpi_comm.Bcast(part, root)

    def bcast_obj(self, obj: Any, root: int = 0) -> Any:
        """The root's object, on every rank."""
        arguments.check_root(root, self.size)
        self._agree("bcast_obj", root)
        if self.rank == root:
            return self._give(obj, root)
        size = np.empty(1, np.int64)
        self.mpi_comm.Bcast(size, root)
        if size[0] < 0:
            raise WorldError(f"rank {root} could not pickle the object it was to broadcast; its own error says why.")
        data = np.empty(size[0], np.uint8)
        self._send_bytes(data, root)
        return pickle.loads(data.data)

    def _give(self, obj: Any, root: int) -> Any:
        try:
            data = np.frombuffer(pickle.dumps(obj, pickle.HIGHEST_PROTOCOL), np.uint8)
        except Exception:
            self.mpi_comm.Bcast(np.full(1, -1, np.int64), root)  # the others must not wait for what never comes
            raise
        self.mpi_comm.Bcast(np.full(1, data.size, np.int64), root)
        self._send_bytes(data, root)
        return obj

    def gather_obj(self, obj: Any, root: int = 0) -> list[Any] | None:
        """The objects of all ranks in their order on the root, None elsewhere."""
        arguments.check_root(root, self.size)
        self._agree("gather_obj", root)
        gathered: list[Any] | None = self.mpi_comm.gather(obj, root)
        return gathered

    def allgather_obj(self, obj: Any) -> list[Any]:
        """The objects of all ranks, in their order, on every rank."""
        self._agree("allgather_obj")
        gathered: list[Any] = self.mpi_comm.allgather(obj)
        return gathered

    def allreduce_obj(self, obj: Any, op: Reduction = "sum") -> Any:
        """The sum, maximum or minimum of the objects of all ranks, combined in the order of the ranks."""
        arguments.check_reduction(op)
        self._agree("allreduce_obj", op)
        return functools.reduce(_REDUCE[op], self.mpi_comm.allgather(obj))

    def barrier(self) -> None:
        """Returns when all ranks have come here."""
        self._agree("barrier")  # nobody learns the outcome before everybody has come

    def split(self, color: int, key: int = 0) -> MpiCommunicator:
        """A communicator of the ranks that give the same colour, ordered by key, then by rank."""
        self._agree("split")
        return MpiCommunicator(self.mpi_comm.Split(color, key))

    def leave(self) -> None:
        """Says that this rank will call no further collective; returns when all ranks have said so.

        Raises:
            WorldError: others wait in a collective that this rank will never join.
        """
        self._agree(LEAVE)

    def abort(self, code: int = 1) -> NoReturn:
        """Ends every process of the job at once with an exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(FORWARD_S)
        self._mpi.COMM_WORLD.Abort(code)
        time.sleep(_ABORT_S)  # MPICH's Abort may return before the process manager has acted
        os._exit(code)

    def _agree(self, *intent: Any) -> None:
        number = _fingerprint(intent)
        plan = self._plan
        plan[0], plan[1] = number, -number
        self.mpi_comm.Allreduce(self._mpi.IN_PLACE, plan, self._mpi.MAX)
        if plan[0] != -plan[1]:  # largest and smallest fingerprint differ: known to all ranks alike
            intents = self.mpi_comm.allgather(_describe(intent))
            error = WorldError(_difference(intents, self.hosts))
            error.deserted = _describe((LEAVE,)) in intents
            raise error


LEAVE = "leave"


@functools.lru_cache(maxsize=4096)
def _fingerprint(intent: tuple[Any, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(intent).encode(), digest_size=7).digest())


def _describe(intent: tuple[Any, ...]) -> str:
    match intent:
        case ("leave",):
            return "has come to the end of its script"
        case (name, dtype, shape, *root):
            return f"{name} of {np.dtype(dtype)!s} {shape}" + "".join(f" from rank {r}" for r in root)
        case (name, *rest):
            return " ".join([name, *(f"with {r!r}" for r in rest)])
    raise AssertionError(intent)


def _difference(intents: list[str], hosts: list[str]) -> str:
    lines = ["the ranks disagree about what comes next:"]
    for intent in dict.fromkeys(intents):
        ranks = [rank for rank, other in enumerate(intents) if other == intent]
        names = ", ".join(f"{rank} ({hosts[rank]})" for rank in ranks[:8]) + (" …" if len(ranks) > 8 else "")
        lines.append(f"  rank {names}: {intent}")
    lines.append(
        "Every rank must call the same collectives in the same order; look for code that runs on some ranks only."
    )
    return "\n".join(lines)


def _parts(flat: NDArray[Any], count: int) -> Iterator[NDArray[Any]]:
    for start in range(0, flat.size, count):
        yield flat[start : start + count]
