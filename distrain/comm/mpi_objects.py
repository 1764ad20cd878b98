"""Objects between the ranks of an MPI communicator.

First all who take part learn how many bytes come, or that an object cannot be sent. That one is an error on all of
them then: on its own rank the pickler's, on the others a `WorldError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.comm.mpi_bytes import Bytes, MpiBytes
from distrain.errors import WorldError


class MpiObjects:
    """Moves objects. What arrives is a copy, on the sender too unless it broadcasts.

    Args:
        mpi_comm: of the ranks.
        moves: of the same ranks.
        hosts: for each rank the node that it is on.
    """

    def __init__(self, mpi_comm: Any, moves: MpiBytes, hosts: Sequence[str]) -> None:
        self._mpi_comm, self._moves, self._hosts = mpi_comm, moves, hosts
        self._rank: int = mpi_comm.Get_rank()
        self._size: int = mpi_comm.Get_size()

    def bcast(self, obj: Any, root: int) -> Any:
        """The root's object, on every rank; on the root the object itself."""
        given = [_Packed(obj)] if self._rank == root else []
        (size,) = self._sizes_from(root, given, 1)
        data = given[0].data if given else np.empty(size, np.uint8)
        self._moves.bcast(data, root)
        return obj if given else _loads(data)

    def gather(self, obj: Any, root: int) -> list[Any] | None:
        """The objects of all ranks in their order on the root, None elsewhere."""
        mine = _Packed(obj)
        sizes = self._sizes_of_all(mine)
        rooms = [np.empty(size, np.uint8) for size in sizes] if self._rank == root else []
        self._moves.move({root: mine.data}, dict(enumerate(rooms)))
        return [_loads(room) for room in rooms] if self._rank == root else None

    def allgather(self, obj: Any) -> list[Any]:
        """The objects of all ranks in their order, on every rank."""
        mine = _Packed(obj)
        sizes = self._sizes_of_all(mine)
        return [_loads(data) for data in self._moves.allgather(mine.data, sizes)]

    def scatter(self, objs: Sequence[Any] | None, root: int) -> Any:
        """Gives each rank one of the root's objects."""
        given = [_Packed(obj) for obj in objs] if self._rank == root and objs is not None else []
        sizes = self._sizes_from(root, given, self._size)
        room = np.empty(sizes[self._rank], np.uint8)
        self._moves.move({rank: packed.data for rank, packed in enumerate(given)}, {root: room})
        return _loads(room)

    def send(self, obj: Any, dest: int, tag: int) -> None:
        """Sends an object to another rank, which calls `recv`."""
        packed = _Packed(obj)
        self._moves.send(np.array([packed.size], np.int64).view(np.uint8), dest, tag)
        packed.check()
        self._moves.send(packed.data, dest, tag)

    def recv(self, source: int, tag: int) -> Any:
        """The object that another rank sends."""
        size = np.empty(1, np.int64)
        self._moves.recv(size.view(np.uint8), source, tag)
        self._check(size.tolist(), source)
        data = np.empty(size[0], np.uint8)
        self._moves.recv(data, source, tag)
        return _loads(data)

    def _sizes_of_all(self, mine: _Packed) -> list[int]:
        """How many bytes each rank brings."""
        sizes = np.empty(self._size, np.int64)
        self._mpi_comm.Allgather(np.array([mine.size], np.int64), sizes)
        mine.check()
        told: list[int] = sizes.tolist()
        self._check(told)
        return told

    def _sizes_from(self, root: int, given: list[_Packed], count: int) -> list[int]:
        """How many bytes the root's objects have, of which it gives that many."""
        sizes = np.array([packed.size for packed in given] or [0] * count, np.int64)
        self._mpi_comm.Bcast(sizes, root)
        for packed in given:
            packed.check()
        told: list[int] = sizes.tolist()
        self._check(told, root)
        return told

    def _check(self, sizes: list[int], sender: int | None = None) -> None:
        """Raises if another rank could not pickle an object; of all of them, or of the sender."""
        if min(sizes) < 0:
            rank = sizes.index(-1) if sender is None else sender
            error = WorldError(
                f"rank {rank} ({self._hosts[rank]}) could not pickle the object that it was to send; its own error "
                "says why."
            )
            error.deserted = True
            raise error


class _Packed:
    """An object as bytes, or why it cannot be.

    Attributes:
        data: the bytes, if there are any.
        size: how many there are; -1 if the object cannot be pickled.
    """

    def __init__(self, obj: Any) -> None:
        from distrain.comm import objects

        self._error: Exception | None = None
        try:
            self.data: Bytes = np.frombuffer(objects.dumps(obj), np.uint8)
            self.size = self.data.size
        except Exception as error:  # raised when all who wait for the object know
            self._error, self.size = error, -1

    def check(self) -> None:
        """Raises what the pickler raised."""
        if self._error is not None:
            raise self._error


def _loads(data: Bytes) -> Any:
    from distrain.comm import objects

    return objects.loads(data.data)
