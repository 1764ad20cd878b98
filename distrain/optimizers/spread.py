"""State that is spread over the ranks: each updates its own slice of every flat array and has the state of that alone.

References: S. Rajbhandari et al.: ZeRO: Memory Optimizations Toward Training Trillion Parameter Models, 2020.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from distrain import backend
from distrain.comm import Communicator
from distrain.comm.reduce_scatter import allgather
from distrain.errors import ArgumentError

if TYPE_CHECKING:
    from distrain.optimizers.flat import FlatGroup

_CACHE_LINE = 64  # bytes


@dataclass(frozen=True)
class Spread:
    """Which rank has which slice.

    Attributes:
        rank, size: this process and how many share the state.
        is_scattered: whether a rank gets the sums of the gradients of its own slice only.
    """

    rank: int = 0
    size: int = 1
    is_scattered: bool = False

    def slices(self, count: int, itemsize: int) -> list[tuple[int, int]]:
        """For each rank its slice `[start, stop)` of a flat array, about as long as the others'.

        Args:
            count: numbers of the array.
            itemsize: bytes of a number. A slice begins where a cache line does.
        """
        unit = max(1, _CACHE_LINE // itemsize)
        edges = [count * rank // self.size // unit * unit for rank in range(self.size)]
        return list(zip(edges, [*edges[1:], count], strict=True))


WHOLE = Spread()
"""Every rank has all of the state."""


def share_parameters(comm: Communicator, group: FlatGroup) -> None:
    """Gives every rank the slices of the parameters that the others have updated; a collective call."""
    host = group.array if group.xp is np else backend.to_cpu(group.array)
    allgather(comm.channel, host, group.slices)
    if host is not group.array:
        backend.copyto(group.array, host)


def sum_over_ranks(comm: Communicator, number: float) -> float:
    """The sum of a number over the ranks, added up in their order; a collective call."""
    numbers = np.zeros(comm.size)
    numbers[comm.rank] = number
    comm.channel.allgather(numbers, [(rank, rank + 1) for rank in range(comm.size)])
    return float(sum(numbers.tolist()))


WholeState = list[dict[str, Any]]
"""For each group its flat state arrays by name, on the host."""


def gather_state(comm: Communicator, groups: Sequence[FlatGroup], to_all: bool) -> WholeState | None:
    """The whole state, on rank 0 or on all ranks; None elsewhere. A collective call."""
    gathered: WholeState = []
    for group in groups:
        arrays: dict[str, Any] = {}
        for name, own in group.state.items():
            host = backend.to_cpu(own)
            parts = comm.allgather(host) if to_all else comm.gather(host)
            if parts is not None:
                arrays[name] = np.concatenate(parts)
        gathered.append(arrays)
    return gathered if to_all or comm.rank == 0 else None


def make_whole(comm: Communicator, groups: Sequence[FlatGroup]) -> None:
    """Gives the rules of the groups all of their state, on every rank; a collective call."""
    whole = gather_state(comm, groups, to_all=True)
    assert whole is not None
    for group, arrays in zip(groups, whole, strict=True):
        _hand_out(group, arrays)


def _hand_out(group: FlatGroup, arrays: dict[str, Any]) -> None:
    for param, rule, (start, stop) in zip(group.params, group.rules, group.bounds, strict=True):
        rule.part, rule.state = None, {name: flat[start:stop].reshape(param.shape) for name, flat in arrays.items()}


@contextmanager
def written_whole(groups: Sequence[FlatGroup], whole: WholeState | None, comm: Communicator) -> Iterator[None]:
    """A `with` block in which the rules have all of their state, to write it.

    Raises:
        ArgumentError: this process has only its own part.
    """
    if not any(group.state for group in groups):
        whole = [{} for _ in groups]
    if whole is None:
        raise ArgumentError(
            f"the state of the optimizer is spread over {comm.size} ranks, and rank {comm.rank} has only its own part "
            "of what there is now. Call optimizer.gather() on every rank first, and save on rank 0; the extension "
            "snapshot() does both."
        )
    own = [(rule, rule.part, rule.state) for group in groups for rule in group.rules]
    try:
        for group, arrays in zip(groups, whole, strict=True):
            _hand_out(group, arrays)
        yield
    finally:
        for rule, part, state in own:
            rule.part, rule.state = part, state


@contextmanager
def read_whole(groups: Sequence[FlatGroup]) -> Iterator[None]:
    """A `with` block in which the rules may read all of their state, of which each keeps its own part."""
    own = [(rule, rule.part, rule.state) for group in groups for rule in group.rules]
    for rule, _, _ in own:
        rule.part = rule.state = None
    found: list[dict[str, Any]] = []
    try:
        yield
        found = [rule.state or {} for rule, _, _ in own]
    finally:
        for rule, part, state in own:
            rule.part, rule.state = part, state
    for (rule, part, state), arrays in zip(own, found, strict=True):
        for name, mine in (state or {}).items():
            if name in arrays:
                backend.copyto(mine, arrays[name].reshape(-1)[part])
            elif rule.t == 0 and name != "master":  # as in a file from before the first update
                mine[...] = 0
