"""Sums in two steps: within a node through shared memory, and between nodes through MPI.

    each rank     writes a piece of its array into the memory of its node
    rank i        adds up the i-th part of that piece, over the ranks of the node
                  … and over the nodes, together with the ranks that have the same part there
    each rank     reads the whole piece

So every byte crosses the network once a node and not once a rank, and all ranks of a node add and send at the same
time. Within a node the terms are added in the order of the ranks, wherever an array is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.comm import node_memory
from distrain.comm.channel import Flat, MpiChannel, even_bounds, parts
from distrain.comm.record import Name
from distrain.comm.topology import position

PIECE = 2**20  # bytes: two barriers cost little beside it, and it stays in a cache


class HierarchicalChannel(MpiChannel):
    """The channel of ranks of which several are on a node.

    Args:
        mpi_comm, name, world_ranks: see `MpiChannel`.
        hosts: for each rank the node that it is on.

    Raises:
        WorldError: the ranks of a node cannot share memory.
    """

    def __init__(self, mpi_comm: Any, name: Name, world_ranks: tuple[int, ...], hosts: Sequence[str]) -> None:
        super().__init__(mpi_comm, name, world_ranks, hosts, "hierarchical")
        here = position(self._rank, hosts)
        self._node: Any = mpi_comm.Split(here.inter_rank, self._rank)
        self._mine = here.intra_rank
        self._parts = min(map(list(hosts).count, hosts))  # as many as the smallest node has ranks
        self._across: Any = mpi_comm.Split(min(here.intra_rank, self._parts), self._rank)
        self._has_peers = here.inter_size > 1
        self._memory = node_memory.share(self._node, 2 * PIECE)
        self._turn = 0

    def _sum_host(self, flat: Flat) -> None:
        for piece in parts(flat, min(self.max_count, PIECE // flat.itemsize)):
            # Two pieces of memory in turn: who is through with this piece may write the next one while others read.
            start = self._turn * PIECE
            self._turn ^= 1
            rows = self._memory[:, start : start + piece.nbytes].view(flat.dtype)
            rows[self._mine] = piece
            self._node.Barrier()
            if self._mine < self._parts:
                first, last = even_bounds(piece.size, self._parts)[self._mine]
                self._sum_part(rows[:, first:last])
            self._node.Barrier()
            piece[...] = rows[0]

    def _sum_part(self, rows: Flat) -> None:
        """Leaves the sum of the rows of all nodes in the first row."""
        is_half = rows.dtype.char == "e"  # which is summed in float32, and rounded once
        total = rows[0].astype(np.float32) if is_half else rows[0]
        for row in rows[1:]:
            total += row
        if self._has_peers:
            self._across.Allreduce(self._mpi.IN_PLACE, total)
        if is_half:
            with np.errstate(over="ignore"):
                rows[0] = total

    def close(self) -> None:
        """Gives the MPI communicators back."""
        self._node.Free()
        self._across.Free()
        super().close()
