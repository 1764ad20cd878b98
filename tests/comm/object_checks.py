"""The checks of suite.py that are about objects."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from distrain.comm import Communicator, MpiCommunicator
from distrain.errors import WorldError


def refused(kind: type[Exception] | tuple[type[Exception], ...], call: Any, *args: Any) -> str:
    try:
        call(*args)
    except kind as error:
        return str(error)
    raise AssertionError(f"{call} accepted {args}")


def check_objects(comm: Communicator) -> None:
    mine = {"rank": comm.rank, "x": np.arange(3), (1, 2): None}
    strange = [complex(comm.rank), {comm.rank}]  # pickled
    for root in range(comm.size):
        assert comm.bcast_obj(mine, root)["rank"] == root
        assert comm.bcast_obj(strange, root) == [complex(root), {root}]
        gathered = comm.gather_obj((comm.rank, "x" * comm.rank), root)
        assert gathered == ([(r, "x" * r) for r in range(comm.size)] if comm.rank == root else None)
        objs = [(root, r, "x" * r) for r in range(comm.size)]
        assert comm.scatter_obj(objs if comm.rank == root else None, root) == (root, comm.rank, "x" * comm.rank)
    assert comm.bcast_obj(None) is None
    assert comm.allgather_obj(str(comm.rank)) == [str(r) for r in range(comm.size)]
    assert comm.allgather_obj(strange) == [[complex(r), {r}] for r in range(comm.size)]
    assert comm.allreduce_obj(comm.rank + 1) == comm.size * (comm.size + 1) // 2
    assert comm.allreduce_obj(str(comm.rank)) == "".join(map(str, range(comm.size)))
    assert comm.allreduce_obj(comm.rank, "max") == comm.size - 1
    assert comm.allreduce_obj(comm.rank, "min") == 0
    arrived = comm.allgather_obj(mine)
    arrived[comm.rank]["x"] += 1  # a copy, that of this rank too
    assert mine["x"][0] == (not isinstance(comm, MpiCommunicator))
    comm.barrier()


def check_objects_that_cannot_be_sent(comm: Communicator) -> None:
    """An object that no pickler takes is an error on all ranks that wait for it, and everything works afterwards."""
    if comm.size == 1:
        return
    n, me, last = comm.size, comm.rank, comm.size - 1

    def bad() -> None: ...

    mine = {"x": bad} if me == last else 1
    calls: list[tuple[Any, ...]] = [(call, mine) for call in (comm.allgather_obj, comm.gather_obj, comm.allreduce_obj)]
    calls += [(comm.gather_obj, mine, last), (comm.bcast_obj, mine, last)]
    calls += [(comm.scatter_obj, [1] * last + [bad] if me == last else None, last)]
    for call, *args in calls:
        text = refused((AttributeError, pickle.PicklingError) if me == last else WorldError, call, *args)
        assert "pickle" in text
        assert me == last or f"rank {last} (" in text
    if me == last:
        refused((AttributeError, pickle.PicklingError), comm.send_obj, bad, 0, 3)
        comm.send_obj("next", 0, 3)
    if me == 0:
        assert f"rank {last} (" in refused(WorldError, comm.recv_obj, last, 3)
        assert comm.recv_obj(last, 3) == "next"
    assert comm.allreduce_obj(1) == n


def check_mixed_messages(comm: Communicator) -> None:
    """Arrays that are taken for an object, and the other way round."""
    if comm.size == 1:
        return
    if comm.rank == 0:
        comm.send_obj(1, 1, 8)
        comm.send(np.empty(0), 1, 9)
    if comm.rank == 1:
        assert "rank 0 (" in refused(WorldError, comm.recv, 0, 8)
        assert "use recv" in refused(WorldError, comm.recv_obj, 0, 9)
