"""The communicator of a process that is alone: every collective is the identity."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

from distrain.backend import Array
from distrain.comm import arguments
from distrain.comm.communicator import Communicator, Reduction


class LocalCommunicator(Communicator):
    """A group of one. It checks its arguments like the others, so that a mistake shows on one process already."""

    rank = 0
    size = 1
    intra_rank = 0
    intra_size = 1
    inter_rank = 0
    inter_size = 1

    def allreduce(self, array: Array) -> None:
        """Leaves the array as it is."""
        arguments.check_summable(array)

    def bcast(self, array: Array, root: int = 0) -> None:
        """Leaves the array as it is."""
        arguments.check_copyable(array)
        arguments.check_root(root, 1)

    def bcast_obj(self, obj: Any, root: int = 0) -> Any:
        """The object itself."""
        arguments.check_root(root, 1)
        return obj

    def gather_obj(self, obj: Any, root: int = 0) -> list[Any] | None:
        """The object in a list."""
        arguments.check_root(root, 1)
        return [obj]

    def allgather_obj(self, obj: Any) -> list[Any]:
        """The object in a list."""
        return [obj]

    def allreduce_obj(self, obj: Any, op: Reduction = "sum") -> Any:
        """The object itself."""
        arguments.check_reduction(op)
        return obj

    def barrier(self) -> None:
        """Returns at once."""

    def split(self, color: int, key: int = 0) -> Communicator:
        """Another group of one."""
        return LocalCommunicator()

    def abort(self, code: int = 1) -> NoReturn:
        """Ends this process at once with an exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
