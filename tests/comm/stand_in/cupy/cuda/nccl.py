"""What distrain uses of cupy.cuda.nccl, between real ranks: MPI carries it.

STAND_IN_NCCL says what is to go wrong, on rank 1: "missing", "refused" (at the start), "late" (the start never ends),
"error" (the second sum after the one by which it is tried), "stopped" (that one never ends there). On all ranks it is
the sum by which it is tried that fails with "useless", and never ends with "mute".
"""

from __future__ import annotations

import ctypes
import os
import threading
from typing import Any

import numpy as np

_FAULT = os.environ.get("STAND_IN_NCCL", "")
_RANK = int(os.environ.get("PMI_RANK", os.environ.get("OMPI_COMM_WORLD_RANK", "0")))

available = not (_FAULT == "missing" and _RANK == 1)
NCCL_SUM = 0
NCCL_INT8, NCCL_UINT8, NCCL_INT32, NCCL_UINT32, NCCL_INT64, NCCL_UINT64 = range(6)
NCCL_FLOAT16, NCCL_FLOAT32, NCCL_FLOAT64 = 6, 7, 8
_DTYPES = ["i1", "u1", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]


class NcclError(RuntimeError):
    pass


def get_unique_id() -> bytes:
    return os.urandom(16)


class NcclCommunicator:
    def __init__(self, ndev: int, commId: bytes, rank: int) -> None:
        from mpi4py import MPI

        fault = _FAULT if _RANK == 1 else ""
        if fault == "refused":
            raise NcclError("NCCL_ERROR_SYSTEM_ERROR: unhandled system error")
        if fault == "late":
            threading.Event().wait()
        if _FAULT in ("refused", "late"):
            threading.Event().wait()  # for the rank that does not come
        assert isinstance(commId, bytes)
        assert ndev in (1, MPI.COMM_WORLD.Get_size())
        self._comm: Any = (MPI.COMM_SELF if ndev == 1 else MPI.COMM_WORLD).Dup()
        assert self._comm.Get_rank() == rank
        self._fault, self._calls, self._error = fault, 0, ""

    def allReduce(self, sendbuf: int, recvbuf: int, count: int, datatype: int, op: int, stream: int) -> None:
        from cupy.cuda import Stream

        assert sendbuf == recvbuf
        assert op == NCCL_SUM
        self._calls += 1
        dtype = np.dtype(_DTYPES[datatype])
        memory = (ctypes.c_char * (count * dtype.itemsize)).from_address(recvbuf)
        Stream.by_ptr[stream].put(lambda: self._sum(np.frombuffer(memory, dtype)))

    def _sum(self, flat: Any) -> None:
        if (self._fault in ("error", "stopped") and self._calls == 3) or _FAULT in ("useless", "mute"):
            self._error = _FAULT if _FAULT == "useless" else self._fault
            threading.Event().wait()
        total = flat.copy()
        from mpi4py import MPI

        self._comm.Allreduce(MPI.IN_PLACE, total)
        flat[...] = total

    def check_async_error(self) -> None:
        if self._error in ("error", "useless"):
            raise NcclError("NCCL_ERROR_UNHANDLED_CUDA_ERROR: unhandled cuda error")

    def abort(self) -> None:
        print("aborted", flush=True)

    def destroy(self) -> None:
        self._comm.Free()
