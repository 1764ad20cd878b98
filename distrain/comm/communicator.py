"""What every communicator can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal, NoReturn

from distrain.backend import Array

Reduction = Literal["sum", "max", "min"]


class Communicator(ABC):
    """A group of ranks that work together.

    Every method but `print` and `abort` is a collective: all ranks of the group call it, in the same order. Objects
    travel as pickles between the ranks of one job, which run one program as one user; use arrays for anything large.

    Attributes:
        rank: number of this process, 0 … size - 1.
        size: processes of the group.
        intra_rank: number of this process among those of its node.
        intra_size: processes of the group on this node.
        inter_rank: number of the node.
        inter_size: nodes of the group.
    """

    rank: int
    size: int
    intra_rank: int
    intra_size: int
    inter_rank: int
    inter_size: int

    def print(self, *values: Any) -> None:
        """Prints on rank 0 and does nothing elsewhere, so that a script needs no question who it is."""
        if self.rank == 0:
            print(*values, flush=True)

    @abstractmethod
    def allreduce(self, array: Array) -> None:
        """Replaces an array by its sum over the ranks, in place.

        float16 is summed in float32 and rounded once; bool is combined by "or"; integers wrap around as in NumPy.
        All ranks get the same bits.

        Args:
            array: host or device array of bool, an integer type, float16, float32 or float64, of one shape and
                dtype on all ranks. Need not be contiguous.

        Raises:
            InvalidType: not an array, not writable, or of another dtype.
            WorldError: the ranks came with different shapes or dtypes, or with another collective.
        """

    @abstractmethod
    def bcast(self, array: Array, root: int = 0) -> None:
        """Overwrites an array with that of the root, in place.

        Args:
            array: host or device array of any dtype but object, of one shape and dtype on all ranks.
            root: the rank that gives.

        Raises:
            ArgumentError: there is no such root.
            InvalidType: not an array, not writable, or an array of Python objects.
            WorldError: the ranks came with different shapes or dtypes, or with another collective.
        """

    @abstractmethod
    def bcast_obj(self, obj: Any, root: int = 0) -> Any:
        """The root's object, on every rank.

        Raises:
            ArgumentError: there is no such root.
            WorldError: the root's object cannot be pickled (the root gets the pickler's error).
        """

    @abstractmethod
    def gather_obj(self, obj: Any, root: int = 0) -> list[Any] | None:
        """The objects of all ranks in their order on the root, None elsewhere.

        Raises:
            ArgumentError: there is no such root.
        """

    @abstractmethod
    def allgather_obj(self, obj: Any) -> list[Any]:
        """The objects of all ranks, in their order, on every rank."""

    @abstractmethod
    def allreduce_obj(self, obj: Any, op: Reduction = "sum") -> Any:
        """The sum (by `+`, in the order of the ranks), maximum or minimum of the objects of all ranks.

        Raises:
            ArgumentError: `op` is none of these.
        """

    @abstractmethod
    def barrier(self) -> None:
        """Returns when all ranks have come here."""

    @abstractmethod
    def split(self, color: int, key: int = 0) -> Communicator:
        """A communicator of the ranks that give the same colour, ordered by key, then by rank."""

    @abstractmethod
    def abort(self, code: int = 1) -> NoReturn:
        """Ends every process of the job at once with an exit code."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} rank {self.rank} of {self.size}>"
