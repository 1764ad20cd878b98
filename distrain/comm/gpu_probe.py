"""Whether MPI takes memory of GPUs, tried by a process that is a world of its own; see `gpu_aware.probe`.

It sends itself an array of the GPU, and sums one. Where MPI cannot do that this process crashes or hangs, and nobody
else does.
"""

from __future__ import annotations

import os
import sys

import numpy as np

from distrain import cuda, mortal

AGREED = "MPI takes memory of GPUs"

_COUNT = 2**18  # elements: small ones and large ones go different ways


def main() -> None:
    """Says AGREED, or fails. The number of the GPU is in the command line."""
    mortal.die_with(os.getppid())  # the rank that asks
    from mpi4py import MPI

    cuda.get_device_from_id(int(sys.argv[1])).use()
    world = MPI.COMM_WORLD
    for count in (1, _COUNT):
        numbers = np.arange(count, dtype=np.float32)
        given, taken, total = cuda.to_gpu(numbers), cuda.to_gpu(-numbers), cuda.to_gpu(-numbers)
        cuda.current_stream().synchronize()
        world.Sendrecv(given, 0, recvbuf=taken, source=0)
        world.Allreduce(given, total)
        world.Allreduce(MPI.IN_PLACE, given)
        for name, array in (("sent", taken), ("summed", total), ("summed in place", given)):
            if not np.array_equal(cuda.to_cpu(array), numbers):
                raise SystemExit(f"{count} numbers that were {name} are others afterwards")
    print(AGREED, flush=True)
    os._exit(0)  # the end of MPI is not what is asked about
