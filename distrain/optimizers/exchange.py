"""The exchange of gradients: every rank ends with the gradient of the job's minibatch."""

from __future__ import annotations

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
        for i, (param, (start, stop)) in enumerate(zip(group.params, group.bounds, strict=True)):
            has_grad = param.grad is not None and weight != 0.0  # 0 * NaN would be NaN
            group.flags[i] = param.grad is not None
            if not has_grad:
                group.grad[start:stop] = 0
        if weight not in (0.0, 1.0):
            group.grad *= group.grad.dtype.type(weight)
        comm.allreduce(group.buffer)
        for i, param in enumerate(group.params):
            if group.flags[i] > 0:
                param.grad = param._grad_view  # lies there already; says that there is a gradient
    for param in loose:
        _exchange_one(comm, weight, param)


def _exchange_one(comm: Communicator, weight: float, param: Parameter) -> None:
    buffer = param.xp.zeros(param.size + 1, param.dtype)
    if param.grad is not None:
        buffer[-1] = 1
        if weight != 0.0:
            buffer[:-1] = param.grad.ravel() * param.dtype.type(weight)
    comm.allreduce(buffer)
    if buffer[-1] > 0:
        param.grad = buffer[:-1].reshape(param.shape)
