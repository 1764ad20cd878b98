"""The exchange of gradients: every rank ends with the gradient of the job's minibatch."""

from __future__ import annotations

from distrain import backend
from distrain.autograd import Parameter
from distrain.comm import Communicator
from distrain.optimizers.flat import FlatGroup


def exchange(comm: Communicator, weight: float, groups: list[FlatGroup], loose: list[Parameter]) -> None:
    """Replaces each gradient by the sum over the ranks of `weight` times it.

    A parameter that no rank has a gradient for stays without; one that only some have counts as zeros on the others.

    Args:
        comm: the ranks.
        weight: what this rank's gradients contribute, 0 … 1.
        groups, loose: the parameters, the same on every rank.
    """
    for group in groups:
        for param, (start, stop) in zip(group.params, group.bounds, strict=True):
            if param.grad is None or weight == 0.0:  # 0 * NaN would be NaN
                group.grad[start:stop] = 0
        group.flags[...] = group.xp.asarray([param.grad is not None for param in group.params])
        if weight not in (0.0, 1.0):
            group.grad *= group.grad.dtype.type(weight)
        comm.allreduce(group.buffer, out=group.buffer)
        for param, flag in zip(group.params, backend.to_cpu(group.flags), strict=True):
            if flag > 0:
                param.grad = param._grad_view  # lies there already; says that there is a gradient
    for param in loose:
        _exchange_one(comm, weight, param)


def _exchange_one(comm: Communicator, weight: float, param: Parameter) -> None:
    buffer = param.xp.zeros(param.size + 1, param.dtype)
    if param.grad is not None:
        buffer[-1] = 1
        if weight != 0.0:
            buffer[:-1] = param.grad.ravel() * param.dtype.type(weight)
    comm.allreduce(buffer, out=buffer)
    if buffer[-1] > 0:
        param.grad = buffer[:-1].reshape(param.shape)
