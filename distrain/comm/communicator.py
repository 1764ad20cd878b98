"""What every communicator can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Literal, NoReturn

from distrain.backend import Array
from distrain.comm import models
from distrain.comm.channel import Channel
from distrain.errors import ArgumentError

Reduction = Literal["sum", "max", "min"]


class Communicator(ABC):
    """A group of ranks that work together.

        total = comm.allreduce(x)           # a new array
        comm.allreduce(x, out=x)            # in place
        y = comm.bcast(x if comm.rank == 0 else None)

    All methods but `send`, `recv`, their `_obj` versions, `print` and `abort` are collectives: all ranks of the group
    call them, in the same order; ranks that come with different ones end in an error that names them. Arrays may be
    on the host or on a GPU (they then go through host memory) and need not be contiguous. Objects of plain values and
    arrays travel as messages, others as pickles (see `objects`), between the ranks of one job, which run one program as
    one user.

    Attributes:
        rank: number of this process, 0 … size - 1.
        size: processes of the group.
        intra_rank: number of this process among those of its node.
        intra_size: processes of the group on this node.
        inter_rank: number of the node.
        inter_size: nodes of the group.
        kind: which way the sums of gradients go: one of `kinds.Kind`, or "local" for one process.
        channel: calls without a comparison before, for what the ranks have agreed on already.
        allreduce_grad_dtype: dtype in which optimizers of these ranks send gradients; None: the gradients' own.
    """

    rank: int
    size: int
    intra_rank: int
    intra_size: int
    inter_rank: int
    inter_size: int
    kind: str
    channel: Channel
    allreduce_grad_dtype: Any = None

    def print(self, *values: Any) -> None:
        """Prints on rank 0 and does nothing elsewhere, so that a script needs no question who it is."""
        if self.rank == 0:
            print(*values, flush=True)

    # Arrays

    @abstractmethod
    def allreduce(self, array: Array, *, out: Array | None = None) -> Array:
        """The sum of an array over the ranks.

        float16 is summed in float32 and rounded once; bool is combined by "or"; integers wrap around as in NumPy.
        All ranks get the same bits.

        Args:
            array: bool, an integer type, float16, float32 or float64, of one shape and dtype on all ranks.
            out: where the result is written, such as the array itself; None makes a new array.

        Returns:
            The result, `out` if that is given.

        Raises:
            InvalidType: not an array, of another dtype, or an `out` that does not fit.
            WorldError: the ranks came with different shapes or dtypes, or with another collective.
        """

    @abstractmethod
    def bcast(self, array: Array | None = None, root: int = 0, *, out: Array | None = None) -> Array:
        """The root's array, on every rank.

        Args:
            array: any dtype but object. What the other ranks give is ignored.
            root: the rank that gives.
            out: where the result is written; None makes a new array (on the root, it is the array itself).

        Returns:
            The result, `out` if that is given.

        Raises:
            ArgumentError: there is no such root.
            InvalidType: not an array, or an array of Python objects.
            WorldError: an `out` on some rank does not fit, or a rank came with another collective.
        """

    @abstractmethod
    def gather(self, array: Array, root: int = 0) -> tuple[Array, ...] | None:
        """The arrays of all ranks in their order on the root, None elsewhere.

        Args:
            array: any dtype but object; shapes and dtypes of the ranks may differ.
            root: the rank that takes.

        Raises:
            ArgumentError: there is no such root.
            InvalidType: not an array, or an array of Python objects.
            WorldError: a rank came with another collective.
        """

    @abstractmethod
    def allgather(self, array: Array) -> tuple[Array, ...]:
        """The arrays of all ranks in their order, on every rank. See `gather`."""

    @abstractmethod
    def alltoall(self, arrays: Sequence[Array]) -> tuple[Array, ...]:
        """Gives each rank one array and takes one of each, in the order of the ranks.

        Args:
            arrays: one for each rank; any dtype but object, any shapes.

        Raises:
            ArgumentError: all ranks alike brought another number of arrays, or something else than arrays.
            WorldError: some ranks did, or a rank came with another collective.
        """

    @abstractmethod
    def scatter(self, arrays: Sequence[Array] | None = None, root: int = 0) -> Array:
        """Gives each rank one of the root's arrays.

        Args:
            arrays: on the root, one for each rank; any dtype but object, any shapes. Ignored elsewhere.
            root: the rank that gives.

        Raises:
            ArgumentError: there is no such root.
            WorldError: the root has another number of arrays, or a rank came with another collective.
        """

    @abstractmethod
    def send(self, data: Array | Sequence[Array], dest: int, tag: int = 0) -> None:
        """Sends an array, or several, to another rank, which calls `recv`.

        Args:
            data: an array or a tuple or list of arrays; any dtype but object.
            dest: the rank that takes.
            tag: a number that tells apart what goes between two ranks, from 0.

        Raises:
            ArgumentError: there is no such other rank.
            InvalidType: not an array, or an array of Python objects.
        """

    @abstractmethod
    def recv(self, source: int, tag: int = 0) -> Any:
        """What another rank sends: an array, or a tuple of arrays.

        Raises:
            ArgumentError: there is no such other rank.
            WorldError: it comes from `send_obj`.
        """

    # Objects

    @abstractmethod
    def bcast_obj(self, obj: Any = None, root: int = 0) -> Any:
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
            WorldError: the object of a rank cannot be pickled (that rank gets the pickler's error).
        """

    @abstractmethod
    def allgather_obj(self, obj: Any) -> list[Any]:
        """The objects of all ranks, in their order, on every rank.

        Raises:
            WorldError: the object of a rank cannot be pickled (that rank gets the pickler's error).
        """

    @abstractmethod
    def allreduce_obj(self, obj: Any, op: Reduction = "sum") -> Any:
        """The sum (by `+`, in the order of the ranks), maximum or minimum of the objects of all ranks.

        Raises:
            ArgumentError: `op` is none of these.
            WorldError: the object of a rank cannot be pickled (that rank gets the pickler's error).
        """

    @abstractmethod
    def scatter_obj(self, objs: Sequence[Any] | None = None, root: int = 0) -> Any:
        """Gives each rank one of the root's objects.

        Raises:
            ArgumentError: there is no such root.
            WorldError: the root has another number of objects, or one cannot be pickled (the root gets the pickler's
                error).
        """

    @abstractmethod
    def send_obj(self, obj: Any, dest: int, tag: int = 0) -> None:
        """Sends an object to another rank, which calls `recv_obj`.

        Raises:
            ArgumentError: there is no such other rank.
        """

    @abstractmethod
    def recv_obj(self, source: int, tag: int = 0) -> Any:
        """The object that another rank sends.

        Raises:
            ArgumentError: there is no such other rank.
            WorldError: it cannot be pickled (the other rank gets the pickler's error), or comes from `send`.
        """

    # Models

    def bcast_data(self, model: Any) -> None:
        """Gives every rank rank 0's parameters and persistent values; what has no size yet stays so.

        Raises:
            WorldError: the ranks have different models.
        """
        models.bcast_data(self, model)

    def multi_node_mean_grad(self, model: Any, zero_fill: bool = False) -> None:
        """Replaces the gradient of each parameter by its mean over the ranks.

        Args:
            model: the same on all ranks.
            zero_fill: without it, a parameter that no rank has a gradient for stays without; with it, that one gets
                zeros. One that only some ranks have counts as zeros on the others either way.

        Raises:
            WorldError: the ranks have different models.
        """
        models.mean_grad(self, model, zero_fill)

    # ChainerMN's older names

    broadcast_data = bcast_data
    allreduce_grad = multi_node_mean_grad

    # The group

    @abstractmethod
    def barrier(self) -> None:
        """Returns when all ranks have come here."""

    @abstractmethod
    def split(self, color: int, key: int = 0) -> Communicator:
        """A communicator of the ranks that give the same colour, ordered by key, then by rank."""

    @abstractmethod
    def finalize(self) -> None:
        """Gives back what a communicator made by `split` holds; it cannot be used afterwards. A collective call.

        The communicator of the world stays; it is given back when the script ends.
        """

    @abstractmethod
    def abort(self, code: int = 1) -> NoReturn:
        """Ends every process of the job at once with an exit code."""

    def set_config(self, name: str, value: Any = True) -> None:
        """Sets a switch of ChainerMN's.

        Args:
            name: "batched_copy" is accepted and changes nothing: gradients lie in one array and are never copied
                together.
            value: of the switch.

        Raises:
            ArgumentError: another name.
        """
        self.get_config(name)

    def get_config(self, name: str | None = None) -> Any:
        """The value of a switch of ChainerMN's, or all of them by name; see `set_config`.

        Raises:
            ArgumentError: there is no such switch.
        """
        switches = {"batched_copy": True}
        if name is None:
            return switches
        if name not in switches:
            raise ArgumentError(f"communicators have no switch {name!r}; there is {', '.join(switches)}")
        return switches[name]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} rank {self.rank} of {self.size}>"
