"""Which way the sums of arrays on GPUs go."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from distrain.backend import Array
from distrain.comm import gpu_aware, nccl
from distrain.comm.gpu_aware import GpuAwareSum
from distrain.comm.gpu_sum import GpuSum, StagedSum
from distrain.comm.nccl import NcclSum
from distrain.errors import WorldError


def choose(
    kind: str,
    mpi_comm: Any,
    hosts: Sequence[str],
    staged: StagedSum,
    sum_by_mpi: Callable[[Array], None],
    flat: Array,
) -> GpuSum:
    """The way for arrays on GPUs. A collective call.

    With "auto" and "hierarchical" it is the first that works on all ranks: NCCL, an MPI that takes memory of GPUs, host
    memory. If NCCL is there and does not work, a warning on the first rank says so.

    Args:
        kind: of the communicator.
        mpi_comm: of the ranks.
        hosts: for each rank the node that it is on.
        staged: the way through host memory.
        sum_by_mpi: see `GpuAwareSum`.
        flat: an array on the GPU of this rank.

    Raises:
        DeviceError: the kind that was asked for cannot be used; on all ranks alike.
        WorldError: NCCL was asked for, and does not start; on all ranks alike.
    """
    if kind in ("mpi", "staged"):
        return staged
    failure: WorldError | None = None
    if kind != "gpu-aware":
        without_nccl = nccl.obstacle(mpi_comm, hosts, flat)
        if without_nccl is None:
            try:
                return NcclSum(mpi_comm, hosts, flat, staged)
            except WorldError as error:
                if kind == "nccl":
                    raise
                failure = error
        elif kind == "nccl":
            raise without_nccl
    without_mpi = gpu_aware.obstacle(mpi_comm, hosts, flat)
    if without_mpi is not None and kind == "gpu-aware":
        raise without_mpi
    way: GpuSum = GpuAwareSum(sum_by_mpi) if without_mpi is None else staged
    if failure is not None and mpi_comm.Get_rank() == 0:
        name = "MPI, which takes memory of GPUs" if without_mpi is None else "host memory"
        warnings.warn(f"{failure} Sums of arrays on GPUs go through {name}.", stacklevel=2)
    return way
