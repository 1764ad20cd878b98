"""The exchange of gradients: every rank ends with the gradient of the job's minibatch.

Each flat group is summed in place, over the communicator's channel: no packing, and no comparison before each call,
since the ranks have compared their layouts once. What remains to be told apart travels along at the end of the
buffer: a number a parameter says who has a gradient, and a ticket says whose buffer it is, so that ranks which update
different optimizers at the same time get an error and not each other's gradients.

Either the whole buffer is summed when the backward pass is over ("direct"), or it is cut into buckets, which one
thread sends in a fixed order as the backward pass fills them. Which is faster is measured in the first steps. Or
("double") a copy of it is summed by that thread during the next step, which uses the sum of the step before.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain import backend, cuda
from distrain.autograd import Parameter, Variable
from distrain.autograd.uses import count_uses
from distrain.clock import clock
from distrain.comm import Communicator
from distrain.comm.half import is_bfloat16
from distrain.comm.reduce_scatter import clip, reduce_scatter
from distrain.errors import WorldError
from distrain.optimizers.buckets import Bucket, cut, in_order
from distrain.optimizers.exchange_plan import ExchangePlan
from distrain.optimizers.flat import FlatGroup


class Exchange:
    """Exchanges the gradients of the parameters of one optimizer.

    Args:
        comm: the ranks.
        groups, loose: the parameters, laid out alike on every rank.
        plan: how it is done; shared by the exchanges that follow each other in one optimizer.
        ticket: a small positive number, the same on all ranks.
    """

    def __init__(
        self, comm: Communicator, groups: list[FlatGroup], loose: list[Parameter], plan: ExchangePlan, ticket: int
    ) -> None:
        self._comm, self._groups, self._loose, self._plan = comm, groups, loose, plan
        self._ticket = ticket
        self._wires = [self._wire(group) for group in groups]
        self._numbers = {id(param): (g, i) for g, group in enumerate(groups) for i, param in enumerate(group.params)}
        self._bucket_bytes: int | None = None
        self._buckets: list[Bucket] = []
        self._step: _Step | None = None
        self._late = _LateSums(self._wires) if plan.is_double else None

    def _wire(self, group: FlatGroup) -> NDArray[Any] | None:
        """Memory for what is sent, unless the buffer itself is.

        It is on the host if it is sent during the next step, or as bfloat16, which CuPy does not know.
        """
        dtype = group.buffer.dtype if self._plan.dtype is None else self._plan.dtype
        if self._plan.is_double or is_bfloat16(dtype):
            return np.empty(len(group.buffer), dtype)
        return None if dtype == group.buffer.dtype else group.xp.empty(len(group.buffer), dtype)

    def _sum(self, g: int, start: int, stop: int) -> None:
        began = time.perf_counter()
        self._sum_slice(g, start, stop)
        clock.lap("sending", began)

    def _sum_slice(self, g: int, start: int, stop: int) -> None:
        group = self._groups[g]
        if not group.spread.is_scattered:
            self._sum_for_all(g, start, stop)
            return
        end = len(group.grad)
        if stop > end:  # what the buffer ends with is for all ranks
            self._sum_for_all(g, end, stop)
        self._sum_own(g, start, min(stop, end))

    def _sum_own(self, g: int, start: int, stop: int) -> None:
        """Sums a slice of a group's gradients, of which this rank gets what lies in its part."""
        group, wire, rank = self._groups[g], self._wires[g], self._comm.rank
        bounds = clip(group.slices, start, stop)
        low, high = bounds[rank]
        flat = part = group.buffer[start:stop]
        if wire is not None:
            part = wire[start:stop]
            with np.errstate(over="ignore"):
                backend.copyto(part, flat)
        host = backend.to_cpu(part)
        reduce_scatter(self._comm.channel, rank, host, bounds, host[low:high])
        if host is not flat:
            backend.copyto(flat[low:high], host[low:high])

    def _sum_for_all(self, g: int, start: int, stop: int) -> None:
        flat, wire = self._groups[g].buffer[start:stop], self._wires[g]
        if wire is None:
            self._comm.channel.allreduce(flat)
            return
        part = wire[start:stop]
        with np.errstate(over="ignore"):  # what is too large for float16 becomes infinite, which loss scaling notices
            backend.copyto(part, flat)
        self._comm.channel.allreduce(part)
        backend.copyto(flat, part)

    # A step

    def start(self, loss: Variable | None) -> None:
        """Called before the last backward pass of a step: from here on gradients are sent when they are complete.

        Args:
            loss: where the pass starts; None if this rank has none, or sends everything at the end.
        """
        plan = self._plan
        plan.begin()
        if plan.is_double:
            return
        size = plan.bucket_bytes
        if loss is None or (size is None and not plan.wants_arrivals):
            return
        buckets = [] if size is None else self._cut(size)
        step = self._step = _Step(self, count_uses(loss), buckets, len(self._groups))
        for group in self._groups:
            for param in group.params:
                param.on_grad = step.received

    def _cut(self, size: int) -> list[Bucket]:
        """All buckets of about that many bytes, in the order in which they are sent."""
        if size != self._bucket_bytes:
            buckets = []
            for g, group in enumerate(self._groups):
                tail = len(group.buffer) - len(group.grad)
                buckets += cut(g, group.bounds, tail, max(1, size // group.buffer.itemsize))
            self._bucket_bytes, self._buckets = size, in_order(buckets, self._plan.arrivals)
        return self._buckets

    def send(self, bucket: Bucket) -> None:
        """Sums a bucket in the channel's thread."""
        stream = cuda.current_stream() if cuda.is_gpu_array(self._groups[bucket.group].buffer) else None
        self._comm.channel.sender.send(self._sum_on, stream, bucket.group, bucket.start, bucket.stop)

    def _sum_on(self, stream: Any, g: int, start: int, stop: int) -> None:
        """In the sender's thread, on the stream of the training thread: what that has begun there comes first."""
        if stream is None:
            self._sum(g, start, stop)
        else:
            with self._groups[g].buffer.device, stream:
                self._sum(g, start, stop)

    def number(self, key: int) -> tuple[int, int]:
        """Group and place of the parameter with that `id`."""
        return self._numbers[key]

    def cancel(self) -> None:
        """Called when the backward pass has failed."""
        self._step = None
        for group in self._groups:
            for param in group.params:
                param.on_grad = None

    def finish(self, weight: float) -> None:
        """Replaces each gradient by the sum over the ranks of `weight` times it.

        A parameter that no rank has a gradient for stays without; one that only some have counts as zeros on the
        others.

        Args:
            weight: what this rank's gradients contribute, 0 … 1.

        Raises:
            WorldError: the ranks exchange the gradients of different optimizers.
        """
        step = self._step
        if step is not None:
            self.cancel()
        for group in self._groups:
            self._prepare(group, weight)
        if self._late is not None:
            self._swap(self._late, weight)
        else:
            self._sum_all(step)
            for g, group in enumerate(self._groups):
                self._accept(group, self._wires[g])
            for param in self._loose:
                _exchange_one(self._comm, weight, param)
        if self._plan.is_stepping:
            self._plan.end(self._comm, [] if step is None else step.arrivals)

    def _sum_all(self, step: _Step | None) -> None:
        size = self._plan.bucket_bytes if self._plan.is_stepping else None
        if size is None:
            for g, group in enumerate(self._groups):
                self._sum(g, 0, len(group.buffer))
            return
        for bucket in self._cut(size)[0 if step is None else step.sent :]:
            self.send(bucket)
        self._comm.channel.sender.settle()

    def _swap(self, late: _LateSums, weight: float) -> None:
        """Takes the sums of the last step, and has those of this one made."""
        sender = self._comm.channel.sender
        sender.settle()
        for param in self._loose:
            _exchange_one(self._comm, weight, param)
        for g, group in enumerate(self._groups):
            late.load(g, group)
            if late.has_sums:
                late.unload(g, group)
                self._accept(group, late.received[g])
            for param, flag in zip(group.params, backend.to_cpu(group.flags), strict=True):
                if not (late.has_sums and flag > 0):
                    param.cleargrad()
        late.turn()
        for sums in late.received:
            sender.send(_summed, self._comm, sums)

    def _prepare(self, group: FlatGroup, weight: float) -> None:
        has_grad = [param._grad is not None for param in group.params]
        group.ticket[...] = self._ticket
        if weight == 0.0:  # 0 * NaN would be NaN
            group.grad[...] = 0
        elif weight != 1.0:
            group.grad *= group.grad.dtype.type(weight)
        if all(has_grad):
            group.flags[...] = 1
            return
        group.flags[...] = group.xp.asarray(has_grad)
        for has, (start, stop) in zip(has_grad, group.bounds, strict=True):
            if not has:
                group.grad[start:stop] = 0

    def _accept(self, group: FlatGroup, wire: NDArray[Any] | None) -> None:
        *flags, ticket = backend.to_cpu(group.buffer[len(group.grad) :]).tolist()
        dtype = group.buffer.dtype if wire is None else wire.dtype
        if ticket != dtype.type(self._ticket * self._comm.size):
            raise WorldError(
                "the ranks exchange the gradients of different optimizers at the same time; rank "
                f"{self._comm.rank} those of {len(group.params)} parameters, {len(group.grad)} numbers. Every rank "
                "must update the same optimizers in the same order; look for code that runs on some ranks only."
            )
        for param, flag in zip(group.params, flags, strict=True):
            if flag > 0 and param._grad is None:
                param.grad = param._grad_view  # lies there already; says that there is a gradient


class _LateSums:
    """Two copies of the gradients in host memory, as they are sent: one that is loaded, one that is being summed.

    Attributes:
        received: of the last step, by group.
        has_sums: whether there was a last step.
    """

    def __init__(self, wires: list[NDArray[Any] | None]) -> None:
        self._loaded = [wire for wire in wires if wire is not None]
        self.received = [np.empty_like(wire) for wire in self._loaded]
        self.has_sums = False

    def load(self, g: int, group: FlatGroup) -> None:
        """Copies the gradients of a group, to be sent."""
        with np.errstate(over="ignore"):
            self._loaded[g][...] = backend.to_cpu(group.buffer)

    def unload(self, g: int, group: FlatGroup) -> None:
        """Puts the sums of the last step in their place."""
        backend.copyto(group.buffer, self.received[g])

    def turn(self) -> None:
        """What is loaded is to be summed."""
        self._loaded, self.received, self.has_sums = self.received, self._loaded, True


def _summed(comm: Communicator, array: NDArray[Any]) -> None:
    began = time.perf_counter()
    comm.channel.allreduce(array)
    clock.lap("sending", began)


class _Step:
    """What has arrived in one backward pass.

    Attributes:
        arrivals: (group, parameter) in the order in which their gradients became complete.
        sent: buckets that were sent.
    """

    def __init__(self, exchange: Exchange, uses: dict[int, int], buckets: list[Bucket], ends: int) -> None:
        self.arrivals: list[tuple[int, int]] = []
        self.sent = 0
        self._exchange, self._uses, self._buckets = exchange, uses, buckets
        self._early = len(buckets) - ends  # the last ones have tails, which are complete when the pass is over
        self._missing = [bucket.last - bucket.first + 1 for bucket in buckets]
        self._bucket_of = {
            (bucket.group, i): b for b, bucket in enumerate(buckets) for i in range(bucket.first, bucket.last + 1)
        }

    def received(self, param: Parameter) -> None:
        """Called when a gradient was added to a parameter's."""
        key = id(param)
        left = self._uses[key] = self._uses.get(key, 0) - 1
        if left:
            return
        who = self._exchange.number(key)
        self.arrivals.append(who)
        if not self._buckets:
            return
        self._missing[self._bucket_of[who]] -= 1
        while self.sent < self._early and not self._missing[self.sent]:
            self._exchange.send(self._buckets[self.sent])
            self.sent += 1


def _exchange_one(comm: Communicator, weight: float, param: Parameter) -> None:
    buffer = param.xp.zeros(param.size + 1, param.dtype)
    if param.grad is not None:
        buffer[-1] = 1
        if weight != 0.0:
            buffer[:-1] = param.grad.ravel() * param.dtype.type(weight)
    comm.allreduce(buffer, out=buffer)
    if buffer[-1] > 0:
        param.grad = buffer[:-1].reshape(param.shape)
