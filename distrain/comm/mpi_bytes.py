"""Bytes between the ranks of an MPI communicator, however many: MPI before 4.0 counts in 32-bit integers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.comm.channel import parts

Bytes = NDArray[np.uint8]


class MpiBytes:
    """Moves bytes whose numbers are known to all who take part.

    Args:
        mpi_comm: of the ranks, for collectives.
        points: another one of the same ranks, for what goes from one to another.

    Attributes:
        max_count: bytes of one call.
    """

    max_count = 2**30

    def __init__(self, mpi_comm: Any, points: Any) -> None:
        from mpi4py import MPI

        self._mpi: Any = MPI
        self._mpi_comm, self._points = mpi_comm, points
        self._rank: int = mpi_comm.Get_rank()

    def bcast(self, flat: Bytes, root: int) -> None:
        """Fills in the root's bytes on every rank."""
        for part in parts(flat, self.max_count):
            self._mpi_comm.Bcast(part, root)

    def allgather(self, mine: Bytes, sizes: Sequence[int]) -> list[Bytes]:
        """The bytes of all ranks in their order, on every rank.

        Args:
            mine: of this rank.
            sizes: how many each rank brings.
        """
        stops = list(itertools.accumulate(sizes))
        starts = [0, *stops[:-1]]
        whole = np.empty(stops[-1], np.uint8)
        arrived = [whole[start:stop] for start, stop in zip(starts, stops, strict=True)]
        if whole.size <= self.max_count:
            self._mpi_comm.Allgatherv(mine, [whole, (list(sizes), starts), self._mpi.BYTE])
        else:
            arrived[self._rank][...] = mine
            for root, part in enumerate(arrived):
                self.bcast(part, root)
        return arrived

    def move(self, sends: Mapping[int, Bytes], rooms: Mapping[int, Bytes]) -> None:
        """Sends bytes to some ranks and receives from others; a collective call.

        Args:
            sends: by rank, what it gets; this rank may be among them.
            rooms: by rank, where to put what it sends.
        """
        requests = []
        for source, room in rooms.items():
            if source != self._rank:
                requests += [self._points.Irecv(part, source) for part in parts(room, self.max_count)]
        for dest, flat in sends.items():
            if dest != self._rank:
                requests += [self._points.Isend(part, dest) for part in parts(flat, self.max_count)]
            else:
                rooms[dest][...] = flat
        self._mpi.Request.Waitall(requests)

    def send(self, flat: Bytes, dest: int, tag: int) -> None:
        """Sends bytes to another rank, which calls `recv`."""
        for part in parts(flat, self.max_count):
            self._points.Send(part, dest, tag + 1)  # 0 is for `move`

    def recv(self, flat: Bytes, source: int, tag: int) -> None:
        """Fills in what another rank sends."""
        for part in parts(flat, self.max_count):
            self._points.Recv(part, source, tag + 1)
