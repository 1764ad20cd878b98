"""What communicators do with models: ChainerMN's calls for loops that exchange gradients by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from distrain.errors import WorldError

if TYPE_CHECKING:
    from distrain.comm.communicator import Communicator


def bcast_data(comm: Communicator, model: Any) -> None:
    """Gives every rank rank 0's parameters and persistent values. A collective call.

    Raises:
        WorldError: the ranks have different models.
    """
    params = _sized(model)
    _require_same(comm, "bcast_data", [(path, tuple(p.shape), str(p.dtype)) for path, p in params])
    for _, param in params:
        comm.bcast(param.array, out=param.array)
    persistents = dict(model.namedpersistents())
    links = dict(model.namedlinks())
    for path, value in comm.bcast_obj(persistents).items():
        prefix, _, name = path.rpartition("/")
        link = links.get(prefix or "/")
        if comm.rank == 0 or link is None:
            continue
        mine = link.__dict__.get(name)
        if isinstance(mine, np.ndarray) and isinstance(value, np.ndarray) and mine.shape == value.shape:
            mine[...] = value
        else:
            object.__setattr__(link, name, link.device.send(value))


def mean_grad(comm: Communicator, model: Any, zero_fill: bool) -> None:
    """Replaces the gradient of each parameter by its mean over the ranks. A collective call.

    Raises:
        WorldError: the ranks have different models.
    """
    params = _sized(model)
    _require_same(comm, "multi_node_mean_grad", [(path, tuple(p.shape), str(p.dtype)) for path, p in params])
    has_grad = np.array([param.grad is not None for _, param in params], np.int64)
    comm.allreduce(has_grad, out=has_grad)
    for (_, param), count in zip(params, has_grad, strict=True):
        if count or zero_fill:
            total = comm.allreduce(param.xp.zeros_like(param.array) if param.grad is None else param.grad)
            total /= total.dtype.type(comm.size)
            param.grad = total


def _sized(model: Any) -> list[tuple[str, Any]]:
    return [(path, param) for path, param in model.namedparams() if param.is_initialized]


def _require_same(comm: Communicator, operation: str, mine: list[Any]) -> None:
    for rank, theirs in enumerate(everybody := comm.allgather_obj(mine)):
        if theirs != everybody[0]:
            here, there = [
                [item for item in a if item not in b] for a, b in ((everybody[0], theirs), (theirs, everybody[0]))
            ]
            raise WorldError(
                f"{operation}: rank {rank} has another model than rank 0; only there {there[:5] or 'nothing'}, only on "
                f"rank 0 {here[:5] or 'nothing'}. Build the same model on every rank."
            )
