"""The checks that every communicator passes; run on any number of ranks: `mpiexec -n N python suite.py`."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from typing import Any

import numpy as np
from ml_dtypes import bfloat16
from object_checks import check_mixed_messages, check_objects, check_objects_that_cannot_be_sent, refused

import distrain
import distrain.links as L
from distrain import comm as comm_package
from distrain.comm import Communicator, MpiCommunicator
from distrain.comm.channel import even_bounds
from distrain.comm.hierarchical import PIECE, WORTH, HierarchicalChannel
from distrain.comm.tree import TreeSum, combine, ordered_sum
from distrain.dataset.sharding import share
from distrain.errors import ArgumentError, InvalidType, WorldError

DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]


def check_allreduce(comm: Communicator) -> None:
    for dtype in DTYPES:
        for shape in [(), (1,), (3, 5), (0,), (2, 0)]:
            data = [
                np.random.default_rng(r).integers(0, 2 if dtype == "?" else 9, shape).astype(dtype)
                for r in range(comm.size)
            ]
            x = data[comm.rank].copy()
            before = x.copy()
            total = comm.allreduce(x)
            np.testing.assert_array_equal(x, before)
            assert comm.allreduce(x, out=x) is x
            np.testing.assert_array_equal(total, x)
            total[...] = 0  # an array of its own, on one rank too
            expected = np.any(data, axis=0) if dtype == "?" else np.sum(data, axis=0, dtype=dtype)
            assert x.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(x, expected, err_msg=f"{dtype} {shape}")


def check_float16(comm: Communicator) -> None:
    x = np.full(3, 2048 if comm.rank == 0 else 1, np.float16)  # 2048 + 1 is 2048 in float16
    comm.allreduce(x, out=x)
    np.testing.assert_array_equal(x, np.full(3, 2048 + comm.size - 1, np.float16))
    x = np.full(2, 60000, np.float16)
    comm.allreduce(x, out=x)
    assert np.isinf(x).all() == (comm.size > 1)
    for size in (2**15 - 1, 2**15, 2**15 + 7):  # short and long ones go different ways
        data = [np.random.default_rng(r).normal(size=size).astype(np.float16) for r in range(comm.size)]
        exact = np.sum(data, axis=0, dtype=np.float64)
        x = comm.allreduce(data[comm.rank])
        np.testing.assert_allclose(x, exact, rtol=2**-10.9, atol=2**-20)
        assert len(set(comm.allgather_obj(x.tobytes()))) == 1


def check_bfloat16(comm: Communicator) -> None:
    """The dtype of ml_dtypes, in which gradients can travel: summed in float32, rounded once."""
    for size in (3, 2**15, 2**15 + 7):
        x = np.full(size, 256 if comm.rank == 0 else 1, bfloat16)  # 256 + 1 is 256 in bfloat16
        comm.channel.allreduce(x)
        np.testing.assert_array_equal(x, np.full(size, 256 + comm.size - 1, np.float32).astype(bfloat16))
    data = [np.random.default_rng(r).normal(size=2**15 + 1).astype(bfloat16) for r in range(comm.size)]
    exact = np.sum([row.astype(np.float64) for row in data], axis=0)
    x = data[comm.rank].copy()
    comm.channel.allreduce(x)
    np.testing.assert_allclose(x.astype(np.float64), exact, rtol=2**-7.9, atol=2**-20)
    assert len(set(comm.allgather_obj(x.tobytes()))) == 1


def check_strides(comm: Communicator) -> None:
    for dtype in ("f4", "f2", "?"):
        whole = np.ones((4, 6), dtype)
        for view in (whole[:, ::2], whole.T[1:3]):
            whole[...] = 1
            before = view.copy()
            assert comm.allreduce(view, out=view) is view
            total = before * comm.size if dtype != "?" else before
            np.testing.assert_array_equal(view, total)
        outside = np.ones((4, 6), dtype)
        comm.allreduce(outside[:, ::2], out=outside[:, ::2])
        assert (outside[:, 1::2] == 1).all()
        whole = np.full((4, 6), comm.rank, dtype)
        comm.bcast(whole[:, ::2], comm.size - 1, out=whole[:, ::2])
        assert (whole[:, ::2] == np.asarray(comm.size - 1, dtype)).all()
        assert (whole[:, 1::2] == np.asarray(comm.rank, dtype)).all()


def check_chunks(comm: Communicator) -> None:
    if isinstance(comm, MpiCommunicator):
        comm._bytes.max_count = comm.channel.max_count = 7
    x, y = np.arange(50, dtype=np.float32), np.arange(50) * (comm.rank + 1)
    comm.allreduce(x, out=x)
    comm.bcast(y, out=y)
    np.testing.assert_array_equal(x, np.arange(50) * comm.size)
    np.testing.assert_array_equal(y, np.arange(50))
    for check in (check_objects, check_moves, check_points):
        check(comm)
    if isinstance(comm, MpiCommunicator):
        del comm._bytes.max_count, comm.channel.max_count


def sample(rank: int, other: int) -> Any:
    """An array whose shape and numbers depend on both ranks; some are empty, none is contiguous."""
    return (
        (np.arange(3 * rank * (other + 2) * 2) % 50 + other).astype(np.int32).reshape(3, rank, -1)[:, :, ::2]
        if rank
        else np.empty((3, 0), np.int32)
    )


def check_moves(comm: Communicator) -> None:
    """gather, allgather, alltoall and scatter."""
    n, me = comm.size, comm.rank
    for dtype in (*DTYPES[1:], "c16", ">f4", "M8[s]"):

        def make(r: int, o: int, dtype: str = dtype) -> Any:
            return sample(r, o).astype(dtype)

        same(comm.allgather(make(me, 0)), [make(r, 0) for r in range(n)])
        same(comm.alltoall([make(me, o) for o in range(n)]), [make(r, me) for r in range(n)])
        for root in range(n):
            gathered = comm.gather(make(me, 1), root)
            if me == root:
                same(gathered, [make(r, 1) for r in range(n)])
            else:
                assert gathered is None
            got = comm.scatter([make(o, 2) for o in range(n)] if me == root else None, root)
            same([got], [make(me, 2)])
    mine = np.array(me)  # no axis; and the result is an array of its own
    for result in (comm.allgather(mine)[me], comm.alltoall([mine] * n)[me], comm.scatter([mine] * n)):
        assert result.shape == ()
        result[...] = 77
    assert mine == me
    strided = np.arange(12).reshape(3, 4)[:, ::2]
    for got in comm.allgather(strided):
        np.testing.assert_array_equal(got, strided)


def same(arrays: Any, expected: Any) -> None:
    assert isinstance(arrays, (tuple, list))
    assert len(arrays) == len(expected)
    for array, other in zip(arrays, expected, strict=True):
        assert (array.dtype, array.shape) == (other.dtype, other.shape)
        np.testing.assert_array_equal(array, other)


def check_points(comm: Communicator) -> None:
    """send and recv, round a ring."""
    if comm.size == 1:
        for call in (comm.recv, comm.recv_obj):
            assert "0 … 0, not 0" in refused(ArgumentError, call, 0)
        return
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    for data in (sample(2, 3), np.array(5.0), np.empty((0, 3), np.int8), np.arange(64).reshape(8, 8).T):
        if comm.rank == 0:
            comm.send(data, right)
        got = comm.recv(left)
        same([got], [data])
        if comm.rank:
            comm.send(got, right)
    if comm.rank == 0:  # several arrays; tags keep apart what overtakes
        comm.send((np.arange(3), np.ones((2, 2))), right, 1)
        comm.send([np.arange(4)], right, 0)
        comm.send_obj({"a": [1, None]}, right, 5)
        comm.send_obj("first", right)
    if comm.rank == 1:
        assert comm.recv_obj(0, 5) == {"a": [1, None]}
        same(comm.recv(0), [np.arange(4)])
        same(comm.recv(0, 1), [np.arange(3), np.ones((2, 2))])
        assert comm.recv_obj(0) == "first"
    refused(ArgumentError, comm.send, np.ones(2), comm.rank)
    refused(ArgumentError, comm.send_obj, 1, comm.size)
    refused(InvalidType, comm.send, 1.0, right)
    assert "send_obj" in refused(InvalidType, comm.send, (np.array([None]),), right)


def check_bcast(comm: Communicator) -> None:
    for root in range(comm.size):
        for dtype in [*DTYPES, "c16", ">f4", "M8[s]", "S3"]:
            for shape in [(), (4,), (2, 3), (0,)]:
                x = np.full(shape, comm.rank + 1).astype(dtype)
                expected = np.full(shape, root + 1).astype(dtype)
                got = comm.bcast(x if comm.rank == root else None, root)
                same([got], [expected])
                assert comm.bcast(x, root, out=x) is x
                np.testing.assert_array_equal(x, expected)
    x = np.arange(6.0).reshape(2, 3).T
    y = np.zeros((3, 2), np.float64)
    assert comm.bcast(x, out=y) is y
    np.testing.assert_array_equal(y, x)


def check_split(comm: Communicator) -> None:
    part = comm.split(comm.rank % 2, -comm.rank)
    members = [r for r in range(comm.size) if r % 2 == comm.rank % 2][::-1]
    assert (part.size, part.rank) == (len(members), members.index(comm.rank))
    assert part.allgather_obj(comm.rank) == members
    x = np.array([comm.rank])
    assert part.allreduce(x) == sum(members)
    part.finalize()


def check_refusals(comm: Communicator) -> None:
    read_only = np.ones(2)
    read_only.flags.writeable = False
    assert comm.allreduce(read_only)[0] == comm.size
    for call in (comm.allreduce, comm.bcast):
        assert "read-only" in refused(InvalidType, partial(call, out=read_only), read_only)
    assert "float32 (2,)" in refused(InvalidType, partial(comm.allreduce, out=np.ones(2, np.float32)), np.ones(2))
    assert "object" in refused(InvalidType, comm.allreduce, np.array([None]))
    assert "complex128" in refused(InvalidType, comm.allreduce, np.ones(2, complex))
    assert "list" in refused(InvalidType, comm.allreduce, [1, 2])
    assert "byte order" in refused(InvalidType, comm.allreduce, np.ones(2, ">f4"))
    refused(InvalidType, comm.allreduce, 1.0)
    assert "bcast_obj" in refused(InvalidType, comm.bcast, np.array([None]), comm.rank)
    assert "gather_obj" in refused(InvalidType, comm.gather, np.array([None]))
    assert "allgather" in refused(InvalidType, comm.allgather, [1.0])
    surplus = [np.ones(1)] * (comm.size + 1)
    for arrays in (surplus, None, [None] * comm.size):
        refused(ArgumentError, comm.alltoall, arrays)
    failure = WorldError if isinstance(comm, MpiCommunicator) else ArgumentError
    assert f"not {comm.size + 1}" in refused(failure, comm.scatter, surplus)
    assert f"not {comm.size + 1}" in refused(failure, comm.scatter_obj, surplus)
    assert comm.get_config() == {"batched_copy": True}
    comm.set_config("batched_copy", False)
    assert comm.get_config("batched_copy") is True
    refused(ArgumentError, comm.set_config, "fast")
    calls: list[Any] = [comm.bcast, comm.bcast_obj, comm.gather_obj, comm.gather, comm.scatter, comm.scatter_obj]
    for call in calls:
        assert f"0 … {comm.size - 1}" in refused(ArgumentError, call, np.ones(2), comm.size)
    refused(ArgumentError, comm.bcast, np.ones(2), -1)
    assert "sum, max, min" in refused(ArgumentError, comm.allreduce_obj, 1, "mean")


def check_disagreement(comm: Communicator) -> None:
    if comm.size == 1:
        return
    last = comm.rank == comm.size - 1
    text = refused(WorldError, comm.allreduce, np.ones(5 if last else 6, np.float32))
    assert "float32 (5,)" in text
    assert "float32 (6,)" in text
    assert f"rank {comm.size - 1} (" in text
    text = refused(WorldError, comm.allreduce, np.ones(5, np.float32 if last else np.float64))
    assert "float64" in text
    text = refused(WorldError, comm.barrier) if last else refused(WorldError, comm.allgather_obj, 1)
    assert "barrier" in text
    assert "allgather_obj" in text
    refused(WorldError, comm.bcast_obj, 1, 1 if last else 0)
    text = refused(WorldError, comm.alltoall, [np.ones(1)] * (1 if last else comm.size))
    assert "not 1" in text
    out = np.ones(2 if last else 3)
    text = refused(WorldError, partial(comm.bcast, out=out), np.ones(3))
    assert f"rank {comm.size - 1} (" in text
    assert "float64 (3,) does not fit into its out, float64 (2,)" in text
    assert comm.allreduce_obj(1) == comm.size  # and everything still works


def check_places(comm: Communicator) -> None:
    assert (comm.intra_rank, comm.intra_size) == (comm.rank, comm.size)  # all on this machine
    assert (comm.inter_rank, comm.inter_size) == (0, 1)
    assert repr(comm).endswith(f"rank {comm.rank} of {comm.size}>")


class Model(distrain.Chain):
    def __init__(self, units: int) -> None:
        super().__init__()
        with self.init_scope():
            self.l1 = L.Linear(2, units)
            self.norm = L.BatchNormalization(units)
            self.lazy = L.Linear(None, 1)


def check_models(comm: Communicator) -> None:
    model = Model(3)
    for param in model.params():
        if param.is_initialized:
            param.array[...] = comm.rank + 1
    model.norm.avg_mean[...] = comm.rank
    model.norm.N = comm.rank + 4
    comm.bcast_data(model)
    assert all([(p.array == 1).all() for p in model.params() if p.is_initialized])
    assert not model.lazy.W.is_initialized
    assert (model.norm.avg_mean == 0).all()
    assert model.norm.N == 4

    model.cleargrads()
    model.l1.W.grad = np.full((3, 2), comm.rank + 1, np.float32)
    if comm.rank == 0:
        model.l1.b.grad = np.ones(3, np.float32)
    comm.multi_node_mean_grad(model)
    np.testing.assert_allclose(model.l1.W.grad, (comm.size + 1) / 2)
    np.testing.assert_allclose(model.l1.b.grad, 1 / comm.size)
    assert model.norm.gamma.grad is None
    comm.allreduce_grad(model, zero_fill=True)
    np.testing.assert_array_equal(model.norm.gamma.grad, np.zeros(3, np.float32))
    np.testing.assert_allclose(model.l1.W.grad, (comm.size + 1) / 2, rtol=1e-6)

    if comm.size > 1:
        other = Model(4 if comm.rank == 1 else 3)
        for call in (comm.bcast_data, comm.multi_node_mean_grad):
            text = refused(WorldError, call, other)
            assert "rank 1 has another model" in text
            assert "/l1/W" in text


def check_channel(comm: Communicator) -> None:
    channel, n, me = comm.channel, comm.size, comm.rank
    for dtype in ("f2", "f4", "f8", "i4", "u1"):
        x = np.full(10, me + 1, dtype)
        channel.allreduce(x)
        np.testing.assert_array_equal(x, np.full(10, n * (n + 1) // 2, dtype))
        bounds = even_bounds(11, n)
        given, taken = np.arange(11).astype(dtype), np.zeros((n, bounds[me][1] - bounds[me][0]), dtype)
        width = taken.shape[1]
        channel.alltoall(given, bounds, taken.reshape(-1), [(r * width, (r + 1) * width) for r in range(n)])
        for row in taken:
            np.testing.assert_array_equal(row, given[slice(*bounds[me])])
        whole = np.zeros(11, dtype)
        whole[slice(*bounds[me])] = given[slice(*bounds[me])]
        channel.allgather(whole, bounds)
        np.testing.assert_array_equal(whole, given)


def check_hierarchies(comm: Communicator) -> None:
    """As if the ranks were on several nodes, of one size and of different ones."""
    if not isinstance(comm, MpiCommunicator):
        return
    n, me = comm.size, comm.rank
    members = tuple(comm.allgather_obj(comm_package.world().rank))
    nodes = [[str(r // 2) for r in range(n)], [str(r % 2) for r in range(n)], ["a"] * (n - 1) + ["b"], ["a"] * n]
    for number, hosts in enumerate(nodes):
        channel = HierarchicalChannel(comm.mpi_comm.Dup(), (-1, number), members, hosts)
        for dtype in ("f2", bfloat16, "f4", "f8", "i1", "u1", "i2", "i8"):
            for size in (0, 1, n + 1, WORTH, PIECE + 3):  # short ones go another way
                x = np.full(size, me + 1, dtype)
                channel.allreduce(x)
                np.testing.assert_array_equal(x, np.full(size, n * (n + 1) // 2, dtype))
        x = np.arange(2 * PIECE // 4 + 5, dtype=np.float32) % 100  # three pieces
        expected = x * n
        channel.allreduce(x)
        np.testing.assert_array_equal(x, expected)
        x = np.full(WORTH, 2048 if me == 0 else 1, np.float16)  # 2048 + 1 is 2048 in float16
        channel.allreduce(x)
        np.testing.assert_array_equal(x, np.full(WORTH, 2048 + n - 1, np.float16))
        channel.max_count = 700
        x = np.arange(WORTH // 4, dtype=np.float64)
        channel.allreduce(x)
        np.testing.assert_array_equal(x, np.arange(WORTH // 4) * float(n))
        channel.close()


def check_ordered_sum(comm: Communicator) -> None:
    """The terms add up to the same bits wherever they are, also if the arrays are cut."""
    for count in (8, 5):
        if comm.size > count:
            continue
        rng = np.random.default_rng(count)
        terms = [rng.normal(size=31).astype(np.float32) for _ in range(count)]
        alone = TreeSum()
        for index, term in enumerate(terms):
            alone.add(index, [term.copy()])
        expected = combine({node: sums[0] for node, sums in alone.nodes}, count)
        for max_count in (2**30, 8 * comm.size):
            tree = TreeSum()
            bounds = [share(count, rank, comm.size) for rank in range(comm.size)]
            for index in range(*bounds[comm.rank]):
                tree.add(index, [terms[index].copy()])
            for dtype in (np.float32, np.float16):
                out = np.empty(31, dtype)
                comm.channel.max_count = max_count
                mine = {node: sums[0].copy() for node, sums in tree.nodes}
                ordered_sum(comm.channel, comm.rank, bounds, mine, out)
                del comm.channel.max_count
                np.testing.assert_array_equal(out, expected.astype(dtype))


def check_overflow(comm: Communicator) -> None:
    """Sums that are too large become infinite without a warning, whichever way they go."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        largest = np.full(WORTH, np.finfo(np.float32).max, np.float32)
        assert np.isinf(comm.allreduce(largest)).all() == (comm.size > 1)
        largest[0] = np.inf if comm.rank == 0 else -np.inf
        assert np.isnan(comm.allreduce(largest)[0]) == (comm.size > 1)


def check_all(comm: Communicator) -> None:
    for check in (
        check_places,
        check_allreduce,
        check_float16,
        check_bfloat16,
        check_overflow,
        check_strides,
        check_moves,
        check_points,
        check_chunks,
        check_bcast,
        check_objects,
        check_objects_that_cannot_be_sent,
        check_mixed_messages,
        check_split,
        check_refusals,
        check_disagreement,
        check_models,
        check_channel,
        check_hierarchies,
        check_ordered_sum,
    ):
        check(comm)


if __name__ == "__main__":
    world = comm_package.world()
    assert world is comm_package.world()
    assert world.size == int(sys.argv[1])
    assert world.kind == (sys.argv[2] if world.size > 1 else "local")
    assert ("mpi4py" in sys.modules) == (world.size > 1)
    check_all(world)
    check_all(comm_package.local())
    check_all(world.split(world.rank))
    world.finalize()  # the world stays
    assert world.allreduce_obj(1) == world.size
    print("passed", flush=True)
