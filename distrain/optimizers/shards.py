"""One step in reproducible mode: the shards of a minibatch one after the other, and their sum in a fixed order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain import backend, minibatch
from distrain.autograd import Parameter
from distrain.comm import Communicator
from distrain.comm.tree import TreeSum, ordered_sum
from distrain.dataset.sharding import rank_shards
from distrain.dataset.sharding import share as share_of
from distrain.errors import ArgumentError, WorldError
from distrain.links import Link
from distrain.optimizers.flat import FlatGroup
from distrain.optimizers.parts import PartReports, announced
from distrain.reporting import report

Backward = Callable[[int, int, float], None]
"""Forward and backward pass of some samples of this rank: start, stop, weight in the job's minibatch."""


class ShardedStep:
    """Works through the shards of one rank.

    Args:
        comm: the ranks.
        count: shards of a minibatch.
    """

    def __init__(self, comm: Communicator, count: int) -> None:
        self.comm, self.count = comm, count
        self._terms = [share_of(count, rank, comm.size) for rank in range(comm.size)]
        self._keys: list[str] | None = None
        self._n_persistent = 0

    def bounds(self, share: minibatch.Share | None) -> list[tuple[int, int, int]]:
        """Number, start and stop of this rank's shards; the samples are counted from the rank's first.

        Raises:
            ArgumentError: the minibatch is not one that all ranks share, as their iterator cut it; or there are fewer
                shards than ranks.
        """
        if share is not None and share.ranks in (None, self.comm.size):
            shards = rank_shards(share.total, self.comm.rank, self.comm.size)
            if (share.start, share.start + share.count) == (shards[0][1], shards[-1][2]):
                return [(shard, start - share.start, stop - share.start) for shard, start, stop in shards]
        raise ArgumentError(
            "reproducible mode needs minibatches that the ranks share: take them from an iterator of distrain that was "
            "made after reproducible mode was switched on, with no comm of its own, over a dataset that all ranks have"
        )

    def run(
        self,
        model: Link,
        backward: Backward,
        prepare: Callable[[], tuple[list[FlatGroup], list[Parameter]]],
        is_first: bool,
    ) -> None:
        """One step; afterwards every parameter has the gradient of the job's minibatch.

        Args:
            model: what is trained; its floating persistent arrays become the weighted means over the shards.
            backward: see `Backward`; it leaves the gradients of its samples.
            prepare: puts the parameters in their places, and says where; called once.
            is_first: whether parameters may lack their sizes.
        """
        share = minibatch.current()
        bounds = self.bounds(share)
        assert share is not None
        reports = PartReports()
        places = None
        if is_first or not share.count:  # sizes and names, without a trace in the model
            with announced(share, 0, 0, -1), PartReports().collect(0):
                backward(0, max(1, bounds[0][2]), 0.0)
            places = prepare()
        before = [array.copy() for array in _persistent_arrays(model)]
        persistents: list[NDArray[np.float64]] = []
        tree = TreeSum()
        for number, start, stop in bounds:
            if stop == start:
                reports.skip()
            else:
                _restore(model, before)  # each shard starts from what the minibatch started from
                with announced(share, start, stop, number), reports.collect(stop - start):
                    backward(start, stop, (stop - start) / share.total)
                    persistents.append(_flat(_persistent_arrays(model)) * ((stop - start) / share.total))
            places = places or prepare()
            if stop == start:
                _clear(*places)
                persistents.append(np.zeros(sum(array.size for array in before)))
            tree.add(number, _gradients(*places))
        assert places is not None
        self._sum_gradients(tree, *places)
        self._sum_small(model, bounds, persistents, reports)

    def _sum(self, tree: TreeSum, i: int, out: NDArray[Any]) -> None:
        sums = {node: vectors[i] for node, vectors in tree.nodes}
        ordered_sum(self.comm.channel, self.comm.rank, self._terms, sums, out)

    def _sum_gradients(self, tree: TreeSum, groups: list[FlatGroup], loose: list[Parameter]) -> None:
        for i, group in enumerate(groups):
            buffer = group.buffer[:-1]
            host = buffer if group.xp is np else backend.to_cpu(buffer)
            self._sum(tree, i, host)
            if host is not buffer:
                backend.copyto(buffer, host)
            for param, flag in zip(group.params, host[len(group.grad) :].tolist(), strict=True):
                if flag > 0 and param._grad is None:
                    param.grad = param._grad_view
        for i, param in enumerate(loose, start=len(groups)):
            flat = np.empty(param.size + 1, param.dtype)
            self._sum(tree, i, flat)
            if flat[-1] > 0:
                param.grad = param.device.send(flat[:-1].reshape(param.shape))

    def _sum_small(
        self,
        model: Link,
        bounds: list[tuple[int, int, int]],
        persistents: list[NDArray[np.float64]],
        reports: PartReports,
    ) -> None:
        """Persistent arrays and reports, in float64."""
        every = [summary.sums() for summary in reports.summaries]
        mine = sorted({key for sums in every for key in sums})
        size = sum(array.size for array in _persistent_arrays(model))
        if self._keys is None or self._n_persistent != size:
            self._agree(mine, size)
        while True:
            keys = self._keys or []
            tree = TreeSum()
            for (number, *_), values, sums in zip(bounds, persistents, every, strict=True):
                numbers = [n for key in keys for n in _weighted(sums.get(key))]
                is_new = [float(len(sums.keys() - set(keys)))]
                tree.add(number, [np.concatenate([values, numbers, is_new])])
            total = np.empty(size + 2 * len(keys) + 1)
            self._sum(tree, 0, total)
            if total[-1] == 0:
                break
            self._agree(mine, size)  # a rank reports something for the first time
        start = 0
        for array in _persistent_arrays(model):
            backend.copyto(array, total[start : start + array.size].reshape(array.shape).astype(array.dtype))
            start += array.size
        values, weights = total[size:-1:2], total[size + 1 : -1 : 2]
        report({key: float(v / w) for key, v, w in zip(keys, values, weights, strict=True) if w})

    def _agree(self, keys: list[str], n_persistent: int) -> None:
        everybody = self.comm.allgather_obj((keys, n_persistent))
        for rank, (_, size) in enumerate(everybody):
            if size != everybody[0][1]:
                raise WorldError(
                    f"the persistent arrays of the model have {size} numbers on rank {rank}, but {everybody[0][1]} on "
                    "rank 0. Build the same model on every rank."
                )
        known = set(self._keys or ()).union(*[theirs for theirs, _ in everybody])
        self._keys, self._n_persistent = sorted(known), n_persistent


def _weighted(sums: tuple[float, float, float] | None) -> tuple[float, float]:
    return (0.0, 0.0) if sums is None else (sums[0], sums[2])


def _persistent_arrays(model: Link) -> list[Any]:
    values = [value for _, value in model.namedpersistents()]
    return [x for x in values if (isinstance(x, np.ndarray) or backend.is_gpu_array(x)) and x.dtype.kind == "f"]


def _flat(arrays: list[Any]) -> NDArray[np.float64]:
    return np.concatenate([np.empty(0), *[backend.to_cpu(array).ravel().astype(np.float64) for array in arrays]])


def _restore(model: Link, before: list[Any]) -> None:
    for array, old in zip(_persistent_arrays(model), before, strict=True):
        array[...] = old


def _clear(groups: list[FlatGroup], loose: list[Parameter]) -> None:
    for param in [*[param for group in groups for param in group.params], *loose]:
        param.cleargrad()


def _gradients(groups: list[FlatGroup], loose: list[Parameter]) -> list[NDArray[Any]]:
    """Copies of the gradients, float16 as float32, each followed by who has one."""
    vectors = []
    for group in groups:
        has_grad = [param._grad is not None for param in group.params]
        for has, (start, stop) in zip(has_grad, group.bounds, strict=True):
            if not has:
                group.grad[start:stop] = 0
        group.flags[...] = group.xp.asarray(has_grad)
        vectors.append(_wide_copy(group.buffer[:-1]))
    for param in loose:
        flat = np.zeros(param.size + 1, param.dtype)
        if param.grad is not None:
            flat[:-1], flat[-1] = backend.to_cpu(param.grad).ravel(), 1
        vectors.append(_wide_copy(flat))
    return vectors


def _wide_copy(flat: Any) -> NDArray[Any]:
    host = backend.to_cpu(flat)
    wide: NDArray[Any] = host.astype(np.promote_types(host.dtype, np.float32))
    return wide
