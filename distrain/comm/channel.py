"""The fast lane of a communicator: collectives on flat arrays, without the comparison before each.

The gradients of every step go this way, and what `Communicator.allreduce` sums after its comparison. The ranks have
agreed before on dtypes, lengths and order (see `optimizers/agreement.py`), and nothing else uses the channel's own MPI
communicator, so its calls can only meet each other. They meet in the order of the program: a call comes after all that
were given to the channel's thread before (`sender`). A rank that never comes is noticed by the watch (`comm/watch.py`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain import black_box
from distrain.backend import Array
from distrain.comm import gpu_way, record
from distrain.comm.gpu_sum import GpuSum, StagedSum
from distrain.comm.half import is_half, round_to
from distrain.comm.record import Name, dtype_name
from distrain.comm.sender import Sender
from distrain.comm.waits import Op
from distrain.cuda import is_gpu_array

Bounds = Sequence[tuple[int, int]]
"""For each rank the part `[start, stop)` of a flat array."""

Flat = NDArray[Any]

_WORTH_TWO_CALLS = 2**15  # elements: two calls cost more than twice the bytes of a shorter array


class Channel(ABC):
    """Collectives without a comparison. Arrays are contiguous, one-dimensional and, but for `allreduce`, on the host.

    Attributes:
        max_count: elements of one call, because MPI before 4.0 counts in 32-bit integers. `allreduce` cuts longer
            arrays itself; who calls the others sees to it.
        may_thread: whether a thread may call while another one calls the communicator.
    """

    max_count = 2**30
    may_thread = True
    _sender: Sender | None = None

    @property
    def sender(self) -> Sender:
        """The thread that makes calls of this channel while another one computes; one for all who want that."""
        if self._sender is None:
            self._sender = Sender(self)
        return self._sender

    @abstractmethod
    def allreduce(self, flat: Flat) -> None:
        """Replaces an array by its sum over the ranks, in place. Not for bool.

        It may be on a GPU, if it is on all ranks.
        """

    @abstractmethod
    def alltoall(self, given: Flat, give: Bounds, taken: Flat, take: Bounds) -> None:
        """Sends each rank a part of one array, and receives from each a part of another.

        Args:
            given: what is sent.
            give: the part of `given` for each rank.
            taken: where it arrives; the dtype of `given`.
            take: the part of `taken` from each rank; as long as what that rank gives.
        """

    @abstractmethod
    def allgather(self, flat: Flat, bounds: Bounds) -> None:
        """Fills in what the other ranks have: each rank brings its own part of the array."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""


class LocalChannel(Channel):
    """The channel of a process that is alone."""

    def allreduce(self, flat: Flat) -> None:
        """Leaves the array as it is."""

    def alltoall(self, given: Flat, give: Bounds, taken: Flat, take: Bounds) -> None:
        """Copies its part."""
        taken[slice(*take[0])] = given[slice(*give[0])]

    def allgather(self, flat: Flat, bounds: Bounds) -> None:
        """Leaves the array as it is."""

    def close(self) -> None:
        """Does nothing."""


class MpiChannel(Channel):
    """The channel over MPI.

    Args:
        mpi_comm: an `mpi4py.MPI.Intracomm` that nobody else uses.
        name: of the communicator, the same on its ranks and on no others.
        world_ranks: the ranks' numbers in the job.
        hosts: for each rank the node that it is on.
        kind: of `kinds.Kind`, for arrays on GPUs.
    """

    def __init__(
        self, mpi_comm: Any, name: Name, world_ranks: tuple[int, ...], hosts: Sequence[str], kind: str = "mpi"
    ) -> None:
        from mpi4py import MPI

        self._mpi: Any = MPI
        self._name, self._world_ranks = name, world_ranks
        self._count = 0
        self._slot = record.new_slot(self._describe, name, len(world_ranks), black_box.GRADIENTS)
        self._mpi_comm, self._hosts, self._kind = mpi_comm, hosts, kind
        self._gpu_sum: GpuSum | None = None  # once there are arrays on GPUs
        self._rank: int = mpi_comm.Get_rank()
        self._size: int = mpi_comm.Get_size()
        self.may_thread = MPI.Query_thread() == MPI.THREAD_MULTIPLE

    def allreduce(self, flat: Flat) -> None:
        """Replaces an array by its sum over the ranks, in place."""
        self._enter(b"sum", flat)
        try:
            if is_gpu_array(flat):
                self._on_gpu(flat).allreduce(flat)
            else:
                self._sum_host(flat)
        finally:
            self._slot.leave()

    def _sum_host(self, flat: Flat) -> None:
        if is_half(flat.dtype):
            for part in parts(flat, self.max_count):
                self._sum_half(part)
        else:
            self._sum_by_mpi(flat)

    def _sum_by_mpi(self, flat: Array) -> None:
        for part in parts(flat, self.max_count):
            self._mpi_comm.Allreduce(self._mpi.IN_PLACE, part)

    def _on_gpu(self, flat: Array) -> GpuSum:
        """The way for arrays on GPUs, found when there is one: by then the script has chosen its GPU."""
        if self._gpu_sum is None:
            staged = StagedSum(self._sum_host)
            self._gpu_sum = gpu_way.choose(self._kind, self._mpi_comm, self._hosts, staged, self._sum_by_mpi, flat)
        return self._gpu_sum

    def _enter(self, action: bytes, flat: Flat) -> None:
        if self._sender is not None:
            self._sender.settle()
        self._count += 1
        self._slot.enter((action, self._count, flat), self._count, action, flat.size, dtype_name(flat.dtype))

    def _describe(self, op: tuple[bytes, int, Flat]) -> Op:
        action, count, flat = op[0].decode(), op[1], op[2]
        text = f"exchange {count} of gradients, {action} of {flat.size} {flat.dtype!s}"
        lane = (black_box.GRADIENTS, *self._name)
        return Op((*lane, count, action, flat.size, str(flat.dtype)), self._world_ranks, text, action, lane, count)

    def _sum_half(self, flat: Flat) -> None:
        """No MPI adds 16 bits. Summing in float32 and rounding once is also more exact than rounding once a rank."""
        if flat.size < _WORTH_TWO_CALLS:
            wide = flat.astype(np.float32)
            self._mpi_comm.Allreduce(self._mpi.IN_PLACE, wide)
            round_to(wide, flat)
            return
        bounds = even_bounds(flat.size, self._size)
        start, stop = bounds[self._rank]
        arrived = np.empty((self._size, stop - start), flat.dtype)
        rows = [(r * (stop - start), (r + 1) * (stop - start)) for r in range(self._size)]
        self._alltoall(flat, bounds, arrived.reshape(-1), rows)
        total = arrived[0].astype(np.float32)
        for row in arrived[1:]:
            total += row
        round_to(total, flat[start:stop])
        self._allgather(flat, bounds)

    def alltoall(self, given: Flat, give: Bounds, taken: Flat, take: Bounds) -> None:
        """Sends each rank a part of one array, and receives from each a part of another."""
        self._enter(b"parts", given)
        try:
            self._alltoall(given, give, taken, take)
        finally:
            self._slot.leave()

    def _alltoall(self, given: Flat, give: Bounds, taken: Flat, take: Bounds) -> None:
        kind = self._bytes_type(given.dtype)
        self._mpi_comm.Alltoallv([_plain(given), *_counts(give), kind], [_plain(taken), *_counts(take), kind])

    def allgather(self, flat: Flat, bounds: Bounds) -> None:
        """Fills in what the other ranks have."""
        self._enter(b"gathering", flat)
        try:
            self._allgather(flat, bounds)
        finally:
            self._slot.leave()

    def _allgather(self, flat: Flat, bounds: Bounds) -> None:
        kind = self._bytes_type(flat.dtype)
        self._mpi_comm.Allgatherv(self._mpi.IN_PLACE, [_plain(flat), *_counts(bounds), kind])

    def _bytes_type(self, dtype: np.dtype[Any]) -> Any:
        """MPI's type of that many bytes: what is only moved need not be understood."""
        return getattr(self._mpi, f"UINT{dtype.itemsize * 8}_T")

    def close(self) -> None:
        """Gives the MPI communicator back."""
        if self._sender is not None:
            self._sender.settle()
        if self._gpu_sum is not None:
            self._gpu_sum.close()
        record.drop_slot(self._slot)
        self._mpi_comm.Free()


def _plain(flat: Flat) -> Flat:
    """The array as MPI's Python module takes it: that of a dtype which is not NumPy's own as whole numbers."""
    return flat.view(f"u{flat.dtype.itemsize}") if flat.dtype.kind == "V" else flat


def _counts(bounds: Bounds) -> tuple[list[int], list[int]]:
    return [stop - start for start, stop in bounds], [start for start, _ in bounds]


def even_bounds(count: int, size: int) -> Bounds:
    """Parts of an array for each rank, as even as can be."""
    edges = [count * rank // size for rank in range(size + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def parts(flat: Flat, count: int) -> Iterator[Flat]:
    """The array in parts of that many elements; itself if it is not longer."""
    if flat.size <= count:
        if flat.size:
            yield flat
        return
    for start in range(0, flat.size, count):
        yield flat[start : start + count]
