"""The processes of several devices as `comm.nccl` sees them: what it asks of an MPI communicator, by messages.

The main process is rank 0 and passes on what the others say.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from distrain.errors import WireError
from distrain.training.updaters.messages import Tell, receive, send


class Group(ABC):
    """The methods of `mpi4py.MPI.Comm` that starting NCCL takes, for plain values.

    Args:
        rank: of this process.
        size: number of processes.
    """

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size

    def Get_rank(self) -> int:
        """The number of this process."""
        return self._rank

    def Get_size(self) -> int:
        """The number of processes."""
        return self._size

    @abstractmethod
    def bcast(self, value: Any) -> Any:
        """The main process's value; lists are tuples, as NCCL's numbers are."""

    @abstractmethod
    def allgather(self, value: Any) -> list[Any]:
        """The values of all processes."""


class Hub(Group):
    """The group in the main process.

    Args:
        size: see `Group`.
        tell: sends a value to all workers.
        hear: waits for a value of each.
    """

    def __init__(self, size: int, tell: Callable[[Any], None], hear: Callable[[], list[Any]]) -> None:
        super().__init__(0, size)
        self._tell, self._hear = tell, hear

    def bcast(self, value: Any) -> Any:
        """The main process's value."""
        self._tell(value)
        return value

    def allgather(self, value: Any) -> list[Any]:
        """The values of all processes."""
        values = [value, *self._hear()]
        self._tell(values)
        return values


class Spoke(Group):
    """The group in a worker.

    Args:
        connection: to the main process.
        rank, size: see `Group`.
    """

    def __init__(self, connection: Connection, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self._connection = connection

    def bcast(self, value: Any) -> Any:
        """The main process's value."""
        told = self._listen()
        return tuple(told) if isinstance(told, list) else told

    def allgather(self, value: Any) -> list[Any]:
        """The values of all processes."""
        send(self._connection, Tell(value))
        values: list[Any] = self._listen()
        return values

    def _listen(self) -> Any:
        message = receive(self._connection)
        if not isinstance(message, Tell):
            raise WireError(f"a value of the main process was due, not {type(message).__name__}")
        return message.value
