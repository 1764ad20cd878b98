"""Sums in a fixed order: a binary tree over numbered terms, wherever they are.

The tree stands on 0 … n - 1 terms and does not know about ranks: the terms 2i and 2i + 1 are added, then the sums of
neighbouring pairs, and so on; a node without a right neighbour goes up as it is. A rank that has consecutive terms
adds up those blocks that are whole nodes of the tree; the rest is added after a reduce-scatter (each rank gets one
segment of all blocks), and an allgather hands out the result. These are the same bytes on the wire as in a ring.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.comm.channel import Channel, even_bounds

Node = tuple[int, int]
"""A node of the tree: its first term and the number of terms, a power of two, that it may have."""

Vectors = list[NDArray[Any]]


class TreeSum:
    """Adds up consecutive terms as far as the tree allows.

    Attributes:
        nodes: what is left, in order: nodes of the tree and their sums.
    """

    def __init__(self) -> None:
        self.nodes: list[tuple[Node, Vectors]] = []

    def add(self, index: int, term: Vectors) -> None:
        """Adds the next term; its arrays are used up."""
        self.nodes.append(((index, 1), term))
        while len(self.nodes) > 1:
            (left, left_sum), (right, right_sum) = self.nodes[-2:]
            if left[1] != right[1] or left[0] % (2 * left[1]) or left[0] + left[1] != right[0]:
                return
            for total, more in zip(left_sum, right_sum, strict=True):
                total += more
            self.nodes[-2:] = [((left[0], 2 * left[1]), left_sum)]


def nodes_of(start: int, stop: int) -> list[Node]:
    """The nodes that are left when the terms `start … stop - 1` have been added."""
    tree = TreeSum()
    for index in range(start, stop):
        tree.add(index, [])
    return [node for node, _ in tree.nodes]


def combine(sums: Mapping[Node, NDArray[Any]], count: int) -> NDArray[Any]:
    """The sum of all terms.

    Args:
        sums: by node; together they have all terms. They are used up.
        count: number of terms.
    """
    size = 1
    while size < count:
        size *= 2
    result = _combine(sums, (0, size))
    assert result is not None
    return result


def _combine(sums: Mapping[Node, NDArray[Any]], node: Node) -> NDArray[Any] | None:
    if node in sums:
        return sums[node]
    start, size = node
    if size == 1:
        return None
    left = _combine(sums, (start, size // 2))
    right = _combine(sums, (start + size // 2, size // 2))
    if left is None or right is None:
        return left if right is None else right
    left += right
    return left


def ordered_sum(
    channel: Channel, rank: int, terms: Sequence[tuple[int, int]], mine: Mapping[Node, NDArray[Any]], out: NDArray[Any]
) -> None:
    """Sums over all terms of all ranks, in the order of the tree. A collective call without comparison.

    Args:
        channel: of the ranks.
        rank: of this process.
        terms: for each rank its terms `[start, stop)`.
        mine: the sums of this rank's nodes, flat arrays of one length and dtype. They are used up.
        out: where the result goes, rounded to its dtype; a flat array of that length.
    """
    count = terms[-1][1]
    if len(terms) == 1:
        with np.errstate(over="ignore"):
            out[...] = combine(mine, count)
        return
    nodes = [nodes_of(*bounds) for bounds in terms]
    dtype = next(iter(mine.values())).dtype
    for first, last in _windows(out.size, channel.max_count // len(terms)):
        bounds = even_bounds(last - first, len(terms))
        start, stop = bounds[rank]
        segments: dict[Node, NDArray[Any]] = {}
        for turn in range(max(map(len, nodes))):
            having = [r for r, some in enumerate(nodes) if turn < len(some)]
            arrived = np.empty((len(having), stop - start), dtype)
            rows = {r: (i * (stop - start), (i + 1) * (stop - start)) for i, r in enumerate(having)}
            given = mine[nodes[rank][turn]][first:last] if rank in rows else np.empty(0, dtype)
            give = bounds if rank in rows else [(0, 0)] * len(terms)
            channel.alltoall(given, give, arrived.reshape(-1), [rows.get(r, (0, 0)) for r in range(len(terms))])
            segments.update({nodes[r][turn]: row for r, row in zip(having, arrived, strict=True)})
        window = out[first:last]
        with np.errstate(over="ignore"):
            window[start:stop] = combine(segments, count)
        channel.allgather(window, bounds)


def _windows(count: int, size: int) -> Iterator[tuple[int, int]]:
    for start in range(0, count, size):
        yield start, min(start + size, count)
