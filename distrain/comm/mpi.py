"""The communicator over MPI.

Every collective begins with a comparison of what each rank is about to do: one all-reduce of 16 bytes. So ranks that
come with different shapes, with different collectives, or that have left the script while others go on end in an
error that names them. MPI itself would mix up the data or wait for ever.
"""

from __future__ import annotations

import functools
import itertools
import operator
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from distrain import backend, black_box
from distrain.backend import Array
from distrain.comm import arguments, intents, record
from distrain.comm.channel import parts
from distrain.comm.communicator import Communicator, Reduction
from distrain.comm.header import Header, flat_bytes
from distrain.comm.kinds import Kind, new_channel, same_kind
from distrain.comm.mpi_bytes import MpiBytes
from distrain.comm.mpi_objects import MpiObjects
from distrain.comm.record import Name
from distrain.comm.topology import position
from distrain.comm.waits import Op
from distrain.cuda import is_gpu_array
from distrain.errors import ArgumentError, WorldError

FORWARD_S = 0.4  # MPICH's mpiexec may throw away what it has not yet forwarded when the job is aborted
_ABORT_S = 10.0
_REDUCE: dict[str, Callable[[Any, Any], Any]] = {"sum": operator.add, "max": max, "min": min}


_Method = TypeVar("_Method", bound=Callable[..., Any])


def _leaving(name: str) -> Callable[[_Method], _Method]:
    """Has a method leave the slot of that name at its end, whatever its end is: what was entered takes until then."""

    def decorate(method: _Method) -> _Method:
        @functools.wraps(method)
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            finally:
                getattr(self, name).leave()

        return cast(_Method, call)

    return decorate


_collective, _message = _leaving("_slot"), _leaving("_points_slot")


class _Arrays(NamedTuple):
    """What comes before arrays that are sent: what they are, and whether `send` was given several."""

    headers: list[Header]
    are_several: bool


class MpiCommunicator(Communicator):
    """A group of ranks that talk through MPI.

    Args:
        mpi_comm: an `mpi4py.MPI.Intracomm` that nobody else uses.
        kind: which way the sums of gradients go; see `kinds.Kind`.

    Attributes:
        kind: as given.
        hosts: for each rank the node that it is on.
    """

    def __init__(self, mpi_comm: Any, kind: Kind = "auto") -> None:
        from mpi4py import MPI

        self._mpi: Any = MPI
        self.mpi_comm = mpi_comm
        me = MPI.COMM_WORLD.Get_rank()
        self._world_ranks: tuple[int, ...] = tuple(mpi_comm.allgather(me))
        self._name: Name = mpi_comm.bcast((me, next(_numbers)))  # the same on its ranks, and only there
        self._points: Any = mpi_comm.Dup()  # what goes from one rank to another
        group = self._name, len(self._world_ranks)
        self._slot = record.new_slot(self._describe, *group, black_box.COLLECTIVES)
        self._points_slot = record.new_slot(self._describe_point, *group, black_box.MESSAGES)
        self._agreements = 0
        self._is_part = False
        self.rank = mpi_comm.Get_rank()
        self.size = mpi_comm.Get_size()
        self._plan = np.empty(2, np.int64)
        places: list[tuple[str, str]] = mpi_comm.allgather((socket.gethostname(), kind))
        self.hosts = [host for host, _ in places]
        self.kind = self._kind = same_kind(kind, places)
        self._bytes = MpiBytes(mpi_comm, self._points)
        self._objects = MpiObjects(mpi_comm, self._bytes, self.hosts)
        self.channel = new_channel(kind, mpi_comm.Dup(), self._name, self._world_ranks, self.hosts)
        here = position(self.rank, self.hosts)
        self.intra_rank, self.intra_size = here.intra_rank, here.intra_size
        self.inter_rank, self.inter_size = here.inter_rank, here.inter_size

    # Arrays

    @_collective
    def allreduce(self, array: Array, *, out: Array | None = None) -> Array:
        """The sum of an array over the ranks. Device arrays go through host memory."""
        arguments.check_summable(array, out)
        self._agree("allreduce", array.dtype.str, array.shape)
        if out is not None and out is array and not is_gpu_array(out) and out.flags.c_contiguous:
            self._sum(out.reshape(-1))
            return out
        packed = backend.to_cpu(array) if is_gpu_array(array) else array.copy()  # in C order
        self._sum(packed.reshape(-1))
        if out is None:
            return backend.get_device_from_array(array).send(packed)
        backend.copyto(out, packed)
        return out

    def _sum(self, flat: NDArray[Any]) -> None:
        if flat.dtype == np.bool_:
            for part in parts(flat.view(np.uint8), self._bytes.max_count):
                self.mpi_comm.Allreduce(self._mpi.IN_PLACE, part, self._mpi.MAX)
        else:
            self.channel.allreduce(flat)

    @_collective
    def bcast(self, array: Array | None = None, root: int = 0, *, out: Array | None = None) -> Array:
        """The root's array, on every rank. Device arrays go through host memory."""
        arguments.check_root(root, self.size)
        if self.rank == root:
            arguments.check_sendable("bcast", array)
        if out is not None:
            arguments.check_out("bcast", out)
        self._agree("bcast", root)
        header = self.mpi_comm.bcast(Header.of(array) if self.rank == root else None, root)
        self._require_all("bcast", header.misfit(out))
        if self.rank == root and array is not None:
            self._bytes.bcast(flat_bytes(array), root)
            result = array if out is None or out is array else header.deliver(backend.to_cpu(array), out)
        elif out is not None and not is_gpu_array(out) and out.flags.c_contiguous:
            self._bytes.bcast(flat_bytes(out), root)
            result = out
        else:
            packed = header.room()
            self._bytes.bcast(flat_bytes(packed), root)
            result = header.deliver(packed, out)
        return result

    @_collective
    def gather(self, array: Array, root: int = 0) -> tuple[Array, ...] | None:
        """The arrays of all ranks in their order on the root, None elsewhere."""
        arguments.check_root(root, self.size)
        arguments.check_sendable("gather", array)
        self._agree("gather", root)
        headers = self.mpi_comm.gather(Header.of(array), root)
        arrived = self._move({root: array}, dict(enumerate(headers or ())))
        return tuple(arrived) if self.rank == root else None

    @_collective
    def allgather(self, array: Array) -> tuple[Array, ...]:
        """The arrays of all ranks in their order, on every rank."""
        arguments.check_sendable("allgather", array)
        self._agree("allgather")
        headers = self.mpi_comm.allgather(Header.of(array))
        return tuple(self._move(dict.fromkeys(range(self.size), array), dict(enumerate(headers))))

    @_collective
    def alltoall(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Gives each rank one array and takes one of each, in the order of the ranks."""
        problem = arguments.problem_with("alltoall", arrays, self.size)
        self._agree("alltoall", problem)
        if problem:  # on every rank the same
            raise ArgumentError(problem)
        headers = self.mpi_comm.alltoall([Header.of(array) for array in arrays])
        return tuple(self._move(dict(enumerate(arrays)), dict(enumerate(headers))))

    @_collective
    def scatter(self, arrays: Sequence[Array] | None = None, root: int = 0) -> Array:
        """Gives each rank one of the root's arrays."""
        arguments.check_root(root, self.size)
        problem = arguments.problem_with("scatter", arrays, self.size) if self.rank == root else None
        self._agree("scatter", root)
        self._require_all("scatter", problem)
        given = arrays if self.rank == root and arrays is not None else []
        header = self.mpi_comm.scatter([Header.of(array) for array in given] or None, root)
        return self._move(dict(enumerate(given)), {root: header})[0]

    @_message
    def send(self, data: Array | Sequence[Array], dest: int, tag: int = 0) -> None:
        """Sends an array, or several, to another rank, which calls `recv`."""
        arguments.check_peer(dest, self.rank, self.size)
        arrays = list(data) if isinstance(data, (tuple, list)) else [data]
        for array in arrays:
            arguments.check_sendable("send", array)
        headers = [Header.of(array) for array in arrays]
        self._points_slot.enter(("send to", dest), dest, b"send to")
        self._objects.send(_Arrays(headers, isinstance(data, (tuple, list))), dest, tag)
        for array in arrays:
            self._bytes.send(flat_bytes(array), dest, tag)

    @_message
    def recv(self, source: int, tag: int = 0) -> Any:
        """What another rank sends: an array, or a tuple of arrays."""
        arguments.check_peer(source, self.rank, self.size)
        self._points_slot.enter(("recv from", source), source, b"recv from")
        said = self._objects.recv(source, tag)
        if not isinstance(said, _Arrays):
            raise WorldError(f"rank {source} ({self.hosts[source]}) sent an object with send_obj; use recv_obj")
        arrived = []
        for header in said.headers:
            packed = header.room()
            self._bytes.recv(flat_bytes(packed), source, tag)
            arrived.append(header.deliver(packed, None))
        return tuple(arrived) if said.are_several else arrived[0]

    def _move(self, sends: Mapping[int, Array], headers: Mapping[int, Header]) -> list[Array]:
        """Sends arrays to some ranks, and receives from others what the headers say, in their order."""
        arrived = {source: header.room() for source, header in headers.items()}
        rooms = {source: flat_bytes(packed) for source, packed in arrived.items()}
        self._bytes.move({dest: flat_bytes(array) for dest, array in sends.items()}, rooms)
        return [header.deliver(arrived[source], None) for source, header in headers.items()]

    # Objects

    @_collective
    def bcast_obj(self, obj: Any = None, root: int = 0) -> Any:
        """The root's object, on every rank."""
        arguments.check_root(root, self.size)
        self._agree("bcast_obj", root)
        return self._objects.bcast(obj, root)

    @_collective
    def gather_obj(self, obj: Any, root: int = 0) -> list[Any] | None:
        """The objects of all ranks in their order on the root, None elsewhere."""
        arguments.check_root(root, self.size)
        self._agree("gather_obj", root)
        return self._objects.gather(obj, root)

    @_collective
    def allgather_obj(self, obj: Any) -> list[Any]:
        """The objects of all ranks, in their order, on every rank."""
        self._agree("allgather_obj")
        return self._objects.allgather(obj)

    @_collective
    def allreduce_obj(self, obj: Any, op: Reduction = "sum") -> Any:
        """The sum, maximum or minimum of the objects of all ranks, combined in the order of the ranks."""
        arguments.check_reduction(op)
        self._agree("allreduce_obj", op)
        return functools.reduce(_REDUCE[op], self._objects.allgather(obj))

    @_collective
    def scatter_obj(self, objs: Sequence[Any] | None = None, root: int = 0) -> Any:
        """Gives each rank one of the root's objects."""
        arguments.check_root(root, self.size)
        problem = arguments.problem_with_objects(objs, self.size) if self.rank == root else None
        self._agree("scatter_obj", root)
        self._require_all("scatter_obj", problem)
        return self._objects.scatter(objs, root)

    @_message
    def send_obj(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Sends an object to another rank, which calls `recv_obj`."""
        arguments.check_peer(dest, self.rank, self.size)
        self._points_slot.enter(("send_obj to", dest), dest, b"send_obj to")
        self._objects.send(obj, dest, tag)

    @_message
    def recv_obj(self, source: int, tag: int = 0) -> Any:
        """The object that another rank sends."""
        arguments.check_peer(source, self.rank, self.size)
        self._points_slot.enter(("recv_obj from", source), source, b"recv_obj from")
        obj = self._objects.recv(source, tag)
        if isinstance(obj, _Arrays):
            raise WorldError(f"rank {source} ({self.hosts[source]}) sent arrays with send; use recv")
        return obj

    # The group

    @_collective
    def barrier(self) -> None:
        """Returns when all ranks have come here."""
        self._agree("barrier")  # nobody learns the outcome before everybody has come

    @_collective
    def split(self, color: int, key: int = 0) -> MpiCommunicator:
        """A communicator of the ranks that give the same colour, ordered by key, then by rank."""
        self._agree("split")
        part = MpiCommunicator(self.mpi_comm.Split(color, key), self._kind)
        part._is_part = True
        return part

    @_collective
    def finalize(self) -> None:
        """Gives back what a communicator made by `split` holds; does nothing to the world."""
        self._agree("finalize")
        if self._is_part:
            record.drop_slot(self._slot)
            record.drop_slot(self._points_slot)
            self.channel.close()
            self._points.Free()
            self.mpi_comm.Free()

    @_collective
    def leave(self) -> None:
        """Says that this rank will call no further collective; returns when all ranks have said so.

        Raises:
            WorldError: others wait in a collective that this rank will never join.
        """
        self._agree(intents.LEAVE)

    def abort(self, code: int = 1) -> NoReturn:
        """Ends every process of the job at once with an exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(FORWARD_S)
        self._mpi.COMM_WORLD.Abort(code)
        time.sleep(_ABORT_S)  # MPICH's Abort may return before the process manager has acted
        os._exit(code)

    def _agree(self, *intent: Any) -> None:
        short = intents.summary(intent)
        plan = self._plan
        plan[0], plan[1] = short.number, -short.number
        self._agreements += 1
        self._slot.enter((intent, self._agreements), self._agreements, short.action, short.elements, short.dtype)
        self.mpi_comm.Allreduce(self._mpi.IN_PLACE, plan, self._mpi.MAX)
        if plan[0] != -plan[1]:  # largest and smallest fingerprint differ: known to all ranks alike
            everybody = self.mpi_comm.allgather(intents.describe(intent))
            error = WorldError(intents.difference(everybody, self.hosts))
            error.deserted = intents.describe((intents.LEAVE,)) in everybody
            raise error

    def _describe(self, op: tuple[tuple[Any, ...], int]) -> Op:
        intent, count = op
        is_world = len(self._world_ranks) == self._mpi.COMM_WORLD.Get_size()
        text = intents.describe(intent) + ("" if is_world else f" of ranks {', '.join(map(str, self._world_ranks))}")
        lane = (black_box.COLLECTIVES, *self._name)
        return Op((*lane, count), self._world_ranks, text, intent[0], lane, count, is_end=intent == (intents.LEAVE,))

    def _describe_point(self, op: tuple[str, int]) -> Op:
        action, peer = op
        low, high = sorted((self.rank, peer))
        pair = (self._world_ranks[low], self._world_ranks[high])
        return Op(("points", *self._name, low, high), pair, f"{action} rank {peer}", action)

    def _require_all(self, operation: str, problem: str | None) -> None:
        """Raises on every rank if one has a problem."""
        flag = np.array([problem is not None], np.int8)
        self.mpi_comm.Allreduce(self._mpi.IN_PLACE, flag, self._mpi.MAX)
        if flag[0]:
            problems = enumerate(self.mpi_comm.allgather(problem))
            told = "; ".join(f"rank {rank} ({self.hosts[rank]}): {text}" for rank, text in problems if text)
            raise WorldError(f"{operation} was refused on all ranks. {told}.")


_numbers = itertools.count()
