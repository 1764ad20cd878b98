"""Sums of arrays on GPUs by NCCL, which goes from GPU to GPU.

Guarantees: starting NCCL, with a first sum, takes no longer than the time limit of collectives, and fails on all ranks
alike; an error that NCCL reports while a sum is under way ends it on this rank with a `WorldError`; a rank that never
comes is named by the watch, as with MPI.

float16 travels as float32, since NCCL would round after every addition: not what other ways give, and too coarse for
the tickets at the end of gradients. 8-, 32- and 64-bit integers and the wider floating-point numbers go as they are,
and all others through host memory.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from distrain import cuda
from distrain.backend import Array
from distrain.comm.gpu_sum import GpuSum
from distrain.comm.watch import VARIABLE, timeout_s
from distrain.errors import DeviceError, WorldError

_TYPES = {
    "f": "FLOAT32",
    "d": "FLOAT64",
    "b": "INT8",
    "B": "UINT8",
    "i": "INT32",
    "I": "UINT32",
    "l": "INT64",
    "L": "UINT64",
    "q": "INT64",
    "Q": "UINT64",
}
_POLL_S = 2e-5
_failures: list[str] = []  # why it has not started for ranks of which this process was one


def obstacle(mpi_comm: Any, hosts: Sequence[str], flat: Array) -> DeviceError | None:
    """Why NCCL cannot sum arrays of these ranks; None if it can. A collective call, with the same answer everywhere.

    Where it has once not started it is not tried again.

    Args:
        mpi_comm: of the ranks.
        hosts: for each rank the node that it is on.
        flat: an array on the GPU of this rank.
    """
    try:
        cuda.require_nccl()
        mine: tuple[str, str] = ("".join(_failures[:1]), cuda.bus_id(flat.device.id))
    except DeviceError as error:
        mine = (str(error), "")
    everybody = mpi_comm.allgather(mine)
    for rank, (problem, _) in enumerate(everybody):
        if problem:
            return DeviceError(f"NCCL cannot be used by rank {rank} ({hosts[rank]}): {problem}")
    places = [(host, bus) for host, (_, bus) in zip(hosts, everybody, strict=True)]
    for rank, place in enumerate(places):
        if (first := places.index(place)) != rank:
            return DeviceError(
                f"NCCL cannot be used: ranks {first} and {rank} are on the same GPU, {place[1]} of {place[0]}. Start "
                "one rank a GPU (`distrain run` gives each its own), or set DISTRAIN_COMM=staged."
            )
    return None


class NcclSum(GpuSum):
    """The way over NCCL, on a stream of its own. Making one is a collective call.

    Args:
        mpi_comm: of the ranks; it carries NCCL's number of the group.
        hosts: for each rank the node that it is on.
        flat: an array on the GPU that this rank is to use.
        staged: for dtypes that NCCL does not know.
        look: called while a sum is under way. What it raises ends the sum.

    Raises:
        WorldError: NCCL does not start on some rank, or not in time; on all ranks alike.
    """

    def __init__(
        self,
        mpi_comm: Any,
        hosts: Sequence[str],
        flat: Array,
        staged: GpuSum,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._nccl = cuda.require_nccl()
        self._device, self._staged, self._look = flat.device, staged, look
        self._rank, self._hosts = mpi_comm.Get_rank(), hosts
        self._comm: Any = None
        with self._device:
            self._stream = cuda.new_stream()
        self._start(mpi_comm)

    def _start(self, mpi_comm: Any) -> None:
        problem, number = None, None
        try:
            number = self._nccl.get_unique_id() if self._rank == 0 else None
        except self._nccl.NcclError as error:
            problem = str(error)
        number = mpi_comm.bcast(number)
        if number is not None:
            problem = self._join(mpi_comm.Get_size(), number)
        try:
            problems = mpi_comm.allgather(problem)
        except Exception:  # a process is gone, for which NCCL's own end would wait
            self.abort()
            raise
        if any(problems):
            self.abort()
            told = "; ".join(f"rank {r} ({self._hosts[r]}): {text}" for r, text in enumerate(problems) if text)
            _failures.append(f"it did not start before. {told}")
            raise WorldError(
                f"NCCL did not start. {told}. NCCL_DEBUG=INFO shows more; DISTRAIN_COMM=staged goes without NCCL."
            )

    def _join(self, size: int, number: Any) -> str | None:
        """Starts NCCL in a thread, because its calls cannot be interrupted; returns what went wrong."""
        limit_s = timeout_s(os.environ.get(VARIABLE))
        outcome: list[str | None] = []
        is_over = threading.Event()

        def start() -> None:
            try:
                with self._device:
                    self._comm = self._nccl.NcclCommunicator(size, number, self._rank)
                    if is_over.is_set():  # nobody waits for it any more
                        self.abort()
                    else:
                        outcome.append(self._try(size, is_over))
            except Exception as error:  # told to all ranks, and raised there
                outcome.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=start, name="distrain nccl start", daemon=True)
        thread.start()
        thread.join(limit_s)
        is_over.set()
        return outcome[0] if outcome else f"it has not come to its end after {limit_s:g} s ({VARIABLE})"

    def _try(self, size: int, is_over: threading.Event) -> str | None:
        """Sums one number: much that is wrong with a machine shows only then. Returns what is wrong."""
        one = cuda.to_gpu(np.ones(1, np.float32))
        cuda.current_stream().synchronize()
        self._wait(self._begin(one, "FLOAT32"), is_over)
        found = float(cuda.to_cpu(one)[0])
        return None if found == size or is_over.is_set() else f"the sum of {size} ones was {found:g}"

    def allreduce(self, flat: Array) -> None:
        """Replaces an array by its sum. Returns when it is there.

        Raises:
            WorldError: NCCL reports an error.
        """
        kind = _TYPES.get(flat.dtype.char)
        if flat.dtype.char == "e":
            with self._device:
                wide = flat.astype(np.float32)
                self.allreduce(wide)
                flat[...] = wide  # rounded once
        elif kind is None:
            self._staged.allreduce(flat)
        elif flat.size:
            self._sum(flat, kind)

    def _sum(self, flat: Array, kind: str) -> None:
        with self._device:
            self._stream.wait_event(cuda.current_stream().record())
            try:
                self._wait(self._begin(flat, kind), look=self._look)
            except self._nccl.NcclError as error:
                self.abort()
                raise WorldError(
                    f"rank {self._rank} ({self._hosts[self._rank]}): NCCL failed in a sum of {flat.size} "
                    f"{flat.dtype!s}: {error}. NCCL_DEBUG=INFO shows more; DISTRAIN_COMM=staged goes without NCCL."
                ) from error
            except Exception:  # of `look`
                self.abort()
                raise

    def _begin(self, flat: Array, kind: str) -> Any:
        """Puts a sum on the stream; the event of its end."""
        place, number = flat.data.ptr, getattr(self._nccl, f"NCCL_{kind}")
        self._comm.allReduce(place, place, flat.size, number, self._nccl.NCCL_SUM, self._stream.ptr)
        return self._stream.record()

    def _wait(self, done: Any, is_over: threading.Event | None = None, look: Callable[[], None] = lambda: None) -> None:
        while not done.done and not (is_over is not None and is_over.is_set()):
            self._comm.check_async_error()
            look()
            time.sleep(_POLL_S)
        self._comm.check_async_error()

    def abort(self) -> None:
        """Ends NCCL's group on this rank, whatever the others do."""
        comm, self._comm = self._comm, None
        if comm is not None:
            comm.abort()

    def close(self) -> None:
        """Ends NCCL's group."""
        if self._comm is not None:
            self._comm.destroy()
            self._comm = None
