"""The kinds of communicators over MPI: which way the sums of gradients go."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from distrain import cuda
from distrain.comm.channel import MpiChannel
from distrain.comm.hierarchical import HierarchicalChannel
from distrain.comm.record import Name
from distrain.errors import ArgumentError, WorldError

Kind = Literal["auto", "mpi", "hierarchical", "staged", "nccl", "gpu-aware"]
"""Host arrays are summed by MPI; with "hierarchical" through shared memory inside a node, with "auto" where that is
known to be faster. Arrays on GPUs are summed by NCCL with "nccl", by an MPI that takes their memory with "gpu-aware",
through host memory with "mpi" and "staged", and with "auto" and "hierarchical" by the first of these that works on all
ranks; see `gpu_way`."""

VARIABLE = "DISTRAIN_COMM"


def checked_kind(kind: str) -> Kind:
    """A kind of the user's word.

    Raises:
        ArgumentError: there is no such kind.
        DeviceError: it is "nccl" or "gpu-aware", and this process has no CuPy or GPU, or no NCCL.
    """
    if kind not in get_args(Kind):
        raise ArgumentError(f"there is no communicator {kind!r}; {VARIABLE} may be {', '.join(get_args(Kind))}")
    if kind == "nccl":
        cuda.require_nccl()
    if kind == "gpu-aware":
        cuda.require_cupy()
    return kind  # type: ignore[return-value]


def chosen_kind(environ: Mapping[str, str] = os.environ) -> Kind:
    """The kind that the variable DISTRAIN_COMM names; "auto" without it.

    Raises:
        ArgumentError, DeviceError: see `checked_kind`.
    """
    return checked_kind(environ.get(VARIABLE) or "auto")


def same_kind(mine: Kind, everybody: Sequence[tuple[str, str]]) -> Kind:
    """The kind of all ranks.

    Args:
        mine: of this rank.
        everybody: for each rank the node that it is on, and its kind.

    Raises:
        WorldError: they differ.
    """
    for rank, (host, kind) in enumerate(everybody):
        if kind != everybody[0][1]:
            raise WorldError(
                f"rank {rank} ({host}) is to use the communicator {kind!r}, but rank 0 {everybody[0][1]!r}. Set "
                f"{VARIABLE} to the same on every rank."
            )
    return mine


def new_channel(
    kind: Kind, mpi_comm: Any, name: Name, world_ranks: tuple[int, ...], hosts: Sequence[str]
) -> MpiChannel:
    """The channel of a kind; see `MpiChannel`. A collective call.

    Raises:
        WorldError: it is "hierarchical", and the ranks of a node cannot share memory.
    """
    if kind in ("auto", "hierarchical"):
        return HierarchicalChannel(mpi_comm, name, world_ranks, hosts, kind)
    return MpiChannel(mpi_comm, name, world_ranks, hosts, kind)
