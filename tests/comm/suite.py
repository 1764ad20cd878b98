"""The checks that every communicator passes; run on any number of ranks: `mpiexec -n N python suite.py`."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from distrain import comm as comm_package
from distrain.comm import Communicator, MpiCommunicator
from distrain.errors import ArgumentError, InvalidType, WorldError

DTYPES = ["?", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8"]


def refused(kind: type[Exception], call: Any, *args: Any) -> str:
    try:
        call(*args)
    except kind as error:
        return str(error)
    raise AssertionError(f"{call} accepted {args}")


def check_allreduce(comm: Communicator) -> None:
    for dtype in DTYPES:
        for shape in [(), (1,), (3, 5), (0,), (2, 0)]:
            data = [
                np.random.default_rng(r).integers(0, 2 if dtype == "?" else 9, shape).astype(dtype)
                for r in range(comm.size)
            ]
            x = data[comm.rank].copy()
            comm.allreduce(x)
            expected = np.any(data, axis=0) if dtype == "?" else np.sum(data, axis=0, dtype=dtype)
            assert x.dtype == np.dtype(dtype)
            np.testing.assert_array_equal(x, expected, err_msg=f"{dtype} {shape}")


def check_float16(comm: Communicator) -> None:
    x = np.full(3, 2048 if comm.rank == 0 else 1, np.float16)  # 2048 + 1 is 2048 in float16
    comm.allreduce(x)
    np.testing.assert_array_equal(x, np.full(3, 2048 + comm.size - 1, np.float16))
    x = np.full(2, 60000, np.float16)
    comm.allreduce(x)
    assert np.isinf(x).all() == (comm.size > 1)


def check_strides(comm: Communicator) -> None:
    for dtype in ("f4", "f2", "?"):
        whole = np.ones((4, 6), dtype)
        for view in (whole[:, ::2], whole.T[1:3]):
            whole[...] = 1
            before = view.copy()
            comm.allreduce(view)
            total = before * comm.size if dtype != "?" else before
            np.testing.assert_array_equal(view, total)
        outside = np.ones((4, 6), dtype)
        comm.allreduce(outside[:, ::2])
        assert (outside[:, 1::2] == 1).all()
        whole = np.full((4, 6), comm.rank, dtype)
        comm.bcast(whole[:, ::2], comm.size - 1)
        assert (whole[:, ::2] == np.asarray(comm.size - 1, dtype)).all()
        assert (whole[:, 1::2] == np.asarray(comm.rank, dtype)).all()


def check_chunks(comm: Communicator) -> None:
    if isinstance(comm, MpiCommunicator):
        comm.max_count = 7
    x, y = np.arange(50, dtype=np.float32), np.arange(50) * (comm.rank + 1)
    comm.allreduce(x)
    comm.bcast(y)
    np.testing.assert_array_equal(x, np.arange(50) * comm.size)
    np.testing.assert_array_equal(y, np.arange(50))
    assert comm.bcast_obj(list(range(99))) == list(range(99))
    if isinstance(comm, MpiCommunicator):
        del comm.max_count


def check_bcast(comm: Communicator) -> None:
    for root in range(comm.size):
        for dtype in [*DTYPES, "c16", ">f4", "M8[s]", "S3"]:
            for shape in [(), (4,), (2, 3), (0,)]:
                x = np.full(shape, comm.rank + 1).astype(dtype)
                comm.bcast(x, root)
                np.testing.assert_array_equal(x, np.full(shape, root + 1).astype(dtype))


def check_objects(comm: Communicator) -> None:
    mine = {"rank": comm.rank, "x": np.arange(3)}
    for root in range(comm.size):
        assert comm.bcast_obj(mine, root)["rank"] == root
        gathered = comm.gather_obj(comm.rank, root)
        assert gathered == (list(range(comm.size)) if comm.rank == root else None)
    assert comm.bcast_obj(None) is None
    assert comm.allgather_obj(str(comm.rank)) == [str(r) for r in range(comm.size)]
    assert comm.allreduce_obj(comm.rank + 1) == comm.size * (comm.size + 1) // 2
    assert comm.allreduce_obj(str(comm.rank)) == "".join(map(str, range(comm.size)))
    assert comm.allreduce_obj(comm.rank, "max") == comm.size - 1
    assert comm.allreduce_obj(comm.rank, "min") == 0
    if comm.size > 1:  # an object that cannot travel is an error on every rank, not a wait
        refused(Exception if comm.rank == 0 else WorldError, comm.bcast_obj, lambda: None)
    comm.barrier()


def check_split(comm: Communicator) -> None:
    part = comm.split(comm.rank % 2, -comm.rank)
    members = [r for r in range(comm.size) if r % 2 == comm.rank % 2][::-1]
    assert (part.size, part.rank) == (len(members), members.index(comm.rank))
    assert part.allgather_obj(comm.rank) == members
    x = np.array([comm.rank])
    part.allreduce(x)
    assert x[0] == sum(members)


def check_refusals(comm: Communicator) -> None:
    read_only = np.ones(2)
    read_only.flags.writeable = False
    assert "read-only" in refused(InvalidType, comm.allreduce, read_only)
    assert "object" in refused(InvalidType, comm.allreduce, np.array([None]))
    assert "complex128" in refused(InvalidType, comm.allreduce, np.ones(2, complex))
    assert "list" in refused(InvalidType, comm.allreduce, [1, 2])
    assert "byte order" in refused(InvalidType, comm.allreduce, np.ones(2, ">f4"))
    refused(InvalidType, comm.allreduce, 1.0)
    refused(InvalidType, comm.bcast, read_only)
    assert "bcast_obj" in refused(InvalidType, comm.bcast, np.array([None]))
    for call in (comm.bcast, comm.bcast_obj, comm.gather_obj):
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


def check_places(comm: Communicator) -> None:
    assert (comm.intra_rank, comm.intra_size) == (comm.rank, comm.size)  # all on this machine
    assert (comm.inter_rank, comm.inter_size) == (0, 1)
    assert repr(comm).endswith(f"rank {comm.rank} of {comm.size}>")


def check_all(comm: Communicator) -> None:
    for check in (
        check_places,
        check_allreduce,
        check_float16,
        check_strides,
        check_chunks,
        check_bcast,
        check_objects,
        check_split,
        check_refusals,
        check_disagreement,
    ):
        check(comm)


if __name__ == "__main__":
    world = comm_package.world()
    assert world is comm_package.world()
    assert world.size == int(sys.argv[1])
    assert ("mpi4py" in sys.modules) == (world.size > 1)
    check_all(world)
    check_all(comm_package.local())
    check_all(world.split(world.rank))
    print("passed", flush=True)
