"""Arrays on GPUs through a communicator, with CuPy or the stand-in.

mpiexec -n N python gpu_suite.py KIND WAY           ranks together
mpiexec -n N python gpu_suite.py KIND WAY alone     each rank by itself
"""

from __future__ import annotations

import os
import sys
from typing import Any

import cupy
import numpy as np

from distrain import comm as comm_package
from distrain import cuda
from distrain.comm import Communicator, gpu_aware

PIECE = 2**20  # float32 that go in one piece through host memory


def check_sums(comm: Communicator) -> None:
    n, me = comm.size, comm.rank
    for dtype in ("f2", "f4", "f8", "i1", "u1", "i2", "i4", "i8"):
        for size in (0, 1, 10):
            x = cupy.array(np.full(size, me + 1, dtype))
            comm.channel.allreduce(x)
            np.testing.assert_array_equal(cuda.to_cpu(x), np.full(size, n * (n + 1) // 2, dtype))
    x = cupy.array(np.full(3, 2048 if me == 0 else 1, np.float16))  # 2048 + 1 is 2048 in float16
    comm.channel.allreduce(x)
    np.testing.assert_array_equal(cuda.to_cpu(x), np.full(3, 2048 + n - 1, np.float16))
    for size in (PIECE - 1, 2 * PIECE + 3):
        data = np.arange(size, dtype=np.float32) % 1000
        x = cupy.array(data * (me + 1))
        comm.channel.allreduce(x)
        np.testing.assert_array_equal(cuda.to_cpu(x), data * (n * (n + 1) // 2))
        comm.channel.allreduce(x[:5])
    y = np.full(7, me + 1.0)  # on the host, between them
    comm.channel.allreduce(y)
    np.testing.assert_array_equal(y, np.full(7, n * (n + 1) / 2))


def check_order(comm: Communicator) -> None:
    """What is still to be written on the current stream is in the sum, and the sum is there for what comes after."""
    host, wrong = (cuda.pinned_empty((2**20,), np.float32) for _ in range(2))
    wrong[...] = -1
    x = cupy.array(wrong)
    for turn in range(1, 4):
        host[...] = turn * (comm.rank + 1)
        for source in (wrong,) * 4 + (host,):
            x.set(source, stream=cuda.current_stream())  # takes a while
        comm.channel.allreduce(x)
        found = x.get()
        assert (found == turn * comm.size * (comm.size + 1) // 2).all(), (turn, found[[0, -1]])


def check_the_rest(comm: Communicator) -> None:
    """Everything else goes through host memory, and comes back to where it was."""
    n, me = comm.size, comm.rank
    x = cupy.array(np.arange(12, dtype=np.float32).reshape(3, 4) + me)
    expected = sum(np.arange(12, dtype=np.float32).reshape(3, 4) + r for r in range(n))
    arrived: list[tuple[Any, Any]] = [(comm.allreduce(x), expected), (comm.bcast(x), np.arange(12.0).reshape(3, 4))]
    arrived += [(part, np.arange(12.0).reshape(3, 4) + r) for r, part in enumerate(comm.allgather(x))]
    for found, numbers in arrived:
        assert cuda.is_gpu_array(found)
        np.testing.assert_array_equal(cuda.to_cpu(found), numbers)
    comm.allreduce(x, out=x)
    np.testing.assert_array_equal(cuda.to_cpu(x), expected)
    if n > 1:
        if me == 0:
            comm.send(cupy.array(np.ones(3)), 1)
        if me == 1:
            assert cuda.is_gpu_array(comm.recv(0))


if __name__ == "__main__":
    world = comm_package.world()
    kind, way = sys.argv[1:3]
    assert world.kind == kind
    if "STAND_IN_MPI" in os.environ:  # every MPI takes the arrays of the stand-in, whatever it says
        gpu_aware.library_refusal = lambda: None
    part = world.split(world.rank)
    for comm in (part,) if sys.argv[3:] == ["alone"] else (world, part):
        check_sums(comm)
        check_order(comm)
        check_the_rest(comm)
        if comm is world or sys.argv[3:]:
            assert type(comm.channel._gpu_sum).__name__ == way, comm.channel._gpu_sum
    part.finalize()
    print("passed", flush=True)
