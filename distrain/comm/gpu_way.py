"""Which way the sums of arrays on GPUs go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distrain.backend import Array
from distrain.comm.gpu_sum import GpuSum, StagedSum
from distrain.comm.nccl import NcclSum, obstacle


def choose(kind: str, mpi_comm: Any, hosts: Sequence[str], staged: StagedSum, flat: Array) -> GpuSum:
    """The way for arrays on GPUs. A collective call.

    Args:
        kind: of the communicator.
        mpi_comm: of the ranks.
        hosts: for each rank the node that it is on.
        staged: the way through host memory.
        flat: an array on the GPU of this rank.

    Raises:
        DeviceError: NCCL was asked for and cannot be used; on all ranks alike.
    """
    if kind not in ("auto", "hierarchical", "nccl"):
        return staged
    found = obstacle(mpi_comm, hosts, flat)
    if found is not None and kind != "nccl":
        return staged
    if found is not None:
        raise found
    return NcclSum(mpi_comm, hosts, flat, staged)
