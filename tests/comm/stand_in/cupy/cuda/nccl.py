"""What distrain uses of cupy.cuda.nccl, between real ranks: MPI carries it, or files in the folder STAND_IN_FOLDER.

STAND_IN_NCCL says what is to go wrong, on rank 1: "missing", "refused" (at the start), "late" (the start never ends),
"lost" (the process is killed in it), "error" (the second sum after the one by which it is tried), "stopped" (that one
never ends there), "killed" (so is the process in it). On all ranks it is the sum by which it is tried that fails with
"useless", and never ends with "mute".
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

_FAULT = os.environ.get("STAND_IN_NCCL", "")
_FOLDER = os.environ.get("STAND_IN_FOLDER", "")
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
        fault = _FAULT if (rank if _FOLDER else _RANK) == 1 else ""
        if fault == "refused":
            raise NcclError("NCCL_ERROR_SYSTEM_ERROR: unhandled system error")
        if fault == "lost":
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == "late":
            threading.Event().wait()
        if _FAULT in ("refused", "late"):
            threading.Event().wait()  # for the rank that does not come
        assert isinstance(commId, bytes)
        self._carrier: Any = _Files(ndev, commId, rank) if _FOLDER else _Mpi(ndev, rank)
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
        if self._fault == "killed" and self._calls == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        if (self._fault in ("error", "stopped") and self._calls == 3) or _FAULT in ("useless", "mute"):
            self._error = _FAULT if _FAULT == "useless" else self._fault
            threading.Event().wait()
        flat[...] = self._carrier.sum(flat)

    def check_async_error(self) -> None:
        if self._error in ("error", "useless"):
            raise NcclError("NCCL_ERROR_UNHANDLED_CUDA_ERROR: unhandled cuda error")

    def abort(self) -> None:
        print("aborted", flush=True)

    def destroy(self) -> None:
        self._carrier.close()


class _Mpi:
    def __init__(self, ndev: int, rank: int) -> None:
        from mpi4py import MPI

        assert ndev in (1, MPI.COMM_WORLD.Get_size())
        self._comm: Any = (MPI.COMM_SELF if ndev == 1 else MPI.COMM_WORLD).Dup()
        assert self._comm.Get_rank() == rank

    def sum(self, flat: Any) -> Any:
        from mpi4py import MPI

        total = flat.copy()
        self._comm.Allreduce(MPI.IN_PLACE, total)
        return total

    def close(self) -> None:
        self._comm.Free()


class _Files:
    def __init__(self, ndev: int, number: bytes, rank: int) -> None:
        self._size, self._rank, self._calls = ndev, rank, 0
        self._folder = Path(_FOLDER, number.hex())
        self._folder.mkdir(exist_ok=True)

    def sum(self, flat: Any) -> Any:
        self._calls += 1
        paths = [self._folder / f"{self._calls}-{rank}" for rank in range(self._size)]
        begun = paths[self._rank].with_suffix(".begun")
        begun.write_bytes(flat.tobytes())
        begun.rename(paths[self._rank])
        while not all(path.exists() for path in paths):
            time.sleep(0.001)
        return sum(np.frombuffer(path.read_bytes(), flat.dtype) for path in paths)

    def close(self) -> None:
        pass
