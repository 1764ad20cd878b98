"""The communicator of a process that is alone: every collective is the identity."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from distrain import backend
from distrain.backend import Array
from distrain.comm import arguments
from distrain.comm.channel import LocalChannel
from distrain.comm.communicator import Communicator, Reduction
from distrain.errors import ArgumentError, WorldError


class LocalCommunicator(Communicator):
    """A group of one. It checks its arguments like the others, so that a mistake shows on one process already.

    Results are arrays of their own where they are on several ranks.
    """

    kind = "local"
    rank = 0
    size = 1
    intra_rank = 0
    intra_size = 1
    inter_rank = 0
    inter_size = 1

    def __init__(self) -> None:
        self.channel = LocalChannel()

    def allreduce(self, array: Array, *, out: Array | None = None) -> Array:
        """A copy of the array."""
        arguments.check_summable(array, out)
        if out is None:
            return array.copy()
        if out is not array:
            backend.copyto(out, array)
        return out

    def bcast(self, array: Array | None = None, root: int = 0, *, out: Array | None = None) -> Array:
        """The array itself."""
        arguments.check_root(root, 1)
        arguments.check_sendable("bcast", array)
        if out is None:
            return array
        arguments.check_out("bcast", out)
        if (out.dtype, out.shape) != (array.dtype, array.shape):  # type: ignore[union-attr]
            raise WorldError(f"bcast: the array and its out have different shapes or dtypes, {array!r} and {out!r}")
        if out is not array:
            backend.copyto(out, array)
        return out

    def gather(self, array: Array, root: int = 0) -> tuple[Array, ...] | None:
        """A copy of the array in a tuple."""
        arguments.check_root(root, 1)
        arguments.check_sendable("gather", array)
        return (array.copy(),)

    def allgather(self, array: Array) -> tuple[Array, ...]:
        """A copy of the array in a tuple."""
        arguments.check_sendable("allgather", array)
        return (array.copy(),)

    def alltoall(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """A copy of the array in a tuple."""
        return self._alone("alltoall", arrays)

    def scatter(self, arrays: Sequence[Array] | None = None, root: int = 0) -> Array:
        """A copy of the array."""
        arguments.check_root(root, 1)
        return self._alone("scatter", arrays)[0]

    def _alone(self, operation: str, arrays: Any) -> tuple[Array, ...]:
        problem = arguments.problem_with(operation, arrays, 1)
        if problem:
            raise ArgumentError(problem)
        return (arrays[0].copy(),)

    def send(self, data: Array | Sequence[Array], dest: int, tag: int = 0) -> None:
        """Refused: there is no other rank."""
        arguments.check_peer(dest, 0, 1)

    def recv(self, source: int, tag: int = 0) -> Any:
        """Refused: there is no other rank."""
        arguments.check_peer(source, 0, 1)

    def bcast_obj(self, obj: Any = None, root: int = 0) -> Any:
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

    def scatter_obj(self, objs: Sequence[Any] | None = None, root: int = 0) -> Any:
        """The only object."""
        arguments.check_root(root, 1)
        problem = arguments.problem_with_objects(objs, 1)
        if problem or objs is None:
            raise ArgumentError(problem)
        return objs[0]

    def send_obj(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Refused: there is no other rank."""
        arguments.check_peer(dest, 0, 1)

    def recv_obj(self, source: int, tag: int = 0) -> Any:
        """Refused: there is no other rank."""
        arguments.check_peer(source, 0, 1)

    def barrier(self) -> None:
        """Returns at once."""

    def split(self, color: int, key: int = 0) -> Communicator:
        """Another group of one."""
        return LocalCommunicator()

    def finalize(self) -> None:
        """Does nothing."""

    def abort(self, code: int = 1) -> NoReturn:
        """Ends this process at once with an exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
