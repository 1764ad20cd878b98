from __future__ import annotations

import pytest

from distrain.comm.topology import Position, core_share, position


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        (["a"], [(0, 1, 0, 1)]),
        (["a", "a", "b", "b"], [(0, 2, 0, 2), (1, 2, 0, 2), (0, 2, 1, 2), (1, 2, 1, 2)]),
        (["b", "a", "b"], [(0, 2, 0, 2), (0, 1, 1, 2), (1, 2, 0, 2)]),
    ],
)
def test_position(hosts: list[str], expected: list[tuple[int, int, int, int]]) -> None:
    assert [position(rank, hosts) for rank in range(len(hosts))] == [Position(*place) for place in expected]


@pytest.mark.parametrize(
    ("hosts", "cores", "expected"),
    [
        pytest.param("aa", [range(8), range(8)], [4, 4], id="all cores to all"),
        pytest.param("aa", [range(4), range(4, 8)], [4, 4], id="bound"),
        pytest.param("aaa", [range(2)] * 3, [1, 1, 1], id="more ranks than cores"),
        pytest.param("aab", [range(4), range(4), range(4)], [2, 2, 4], id="two nodes"),
        pytest.param("aaa", [range(6)] * 3, [2, 2, 2], id="thirds"),
    ],
)
def test_core_share(hosts: str, cores: list[range], expected: list[int]) -> None:
    sets = [frozenset(c) for c in cores]
    assert [core_share(rank, list(hosts), sets) for rank in range(len(hosts))] == expected
