from __future__ import annotations

import numpy as np
import pytest

from distrain.comm.tree import TreeSum, combine, nodes_of


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 8, [(0, 8)]),
        (4, 8, [(4, 4)]),
        (0, 3, [(0, 2), (2, 1)]),
        (3, 6, [(3, 1), (4, 2)]),
        (1, 8, [(1, 1), (2, 2), (4, 4)]),
        (5, 6, [(5, 1)]),
        (2, 2, []),
    ],
)
def test_nodes(start: int, stop: int, expected: list[tuple[int, int]]) -> None:
    assert nodes_of(start, stop) == expected


def test_the_order_of_the_sum_is_that_of_the_tree() -> None:
    a, b, c, d, e = (np.float32(x) for x in (1e8, 1.0, -1e8, 1.0, 0.5))
    tree = TreeSum()
    for i, x in enumerate((a, b, c, d, e)):
        tree.add(i, [np.array([x])])
    assert [node for node, _ in tree.nodes] == [(0, 4), (4, 1)]
    assert combine({node: sums[0] for node, sums in tree.nodes}, 5) == ((a + b) + (c + d)) + e


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13])
def test_every_partition_gives_the_same_bits(count: int) -> None:
    rng = np.random.default_rng(count)
    terms = rng.normal(size=(count, 50)).astype(np.float32) * np.float32(10) ** rng.integers(-5, 5, (count, 1))
    results = set()
    for _ in range(30):
        cuts = sorted(rng.integers(0, count + 1, rng.integers(0, 4)))
        sums = {}
        for start, stop in zip([0, *cuts], [*cuts, count], strict=True):
            tree = TreeSum()
            for i in range(start, stop):
                tree.add(i, [terms[i].copy()])
            sums.update({node: vectors[0] for node, vectors in tree.nodes})
        results.add(combine(sums, count).tobytes())
    assert len(results) == 1
