from __future__ import annotations

import math

import pytest

from distrain.comm.cost import (
    ALGORITHMS,
    Cluster,
    Fit,
    Link,
    bus_bandwidth,
    doubling,
    fit,
    hierarchical,
    link_of,
    predict,
    ring,
    step,
    tree,
)
from distrain.errors import ArgumentError

SIZES = [4**i * 1024 for i in range(9)]
LINK = Link(2.0, 3.0)
FLAT = Cluster(LINK, LINK, 1)


@pytest.mark.parametrize(("alpha", "beta"), [(1e-5, 1e-9), (3e-3, 1e-12), (1e-7, 1e-8), (0.0, 1e-9), (1e-5, 0.0)])
def test_times_that_follow_the_model_give_it_back(alpha: float, beta: float) -> None:
    found = fit(SIZES, [alpha + n * beta for n in SIZES])
    assert found.latency_s == pytest.approx(alpha, rel=1e-9, abs=1e-17)
    assert found.byte_s == pytest.approx(beta, rel=1e-9, abs=1e-21)
    assert found.error < 1e-9


def test_relative_errors_are_what_is_small() -> None:
    times = [1.0, 2.0, 100.0]

    def badness(latency: float, byte: float) -> float:
        return sum(((latency + n * byte - t) / t) ** 2 for n, t in zip([1, 2, 30], times, strict=True))

    found = fit([1, 2, 30], times)
    best = badness(found.latency_s, found.byte_s)
    for more in (0.999, 1.001):
        assert badness(found.latency_s * more, found.byte_s) >= best
        assert badness(found.latency_s, found.byte_s * more) >= best
    errors = {n: abs(found.seconds(n) - t) / t for n, t in zip([1, 2, 30], times, strict=True)}
    assert found.error == pytest.approx(max(errors.values()))
    assert errors[found.worst] == max(errors.values())


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([1.0, 4.0], (0.0, (1 / 1 + 2 / 4) / (1 / 1 + 4 / 16))),  # the line through both would begin below 0
        ([4.0, 1.0], ((1 / 4 + 1 / 1) / (1 / 16 + 1), 0.0)),  # it would fall
    ],
)
def test_no_part_is_negative(times: list[float], expected: tuple[float, float]) -> None:
    found = fit([1, 2], times)
    assert (found.latency_s, found.byte_s) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sizes", "times", "words"),
    [([4], [1.0], "two different sizes"), ([4, 4], [1.0, 1.0], r"\[4, 4\]"), ([4, 8], [0.0, 1.0], "more than 0 s")],
)
def test_what_gives_no_line(sizes: list[int], times: list[float], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        fit(sizes, times)


def test_a_link_from_a_line() -> None:
    assert link_of(Fit(2.0, 3.0, 0.0, 4), 2) == LINK
    assert link_of(Fit(6.0, 3.0, 0.0, 4), 8) == Link(2.0, 3.0 * 8 / 14)
    assert link_of(Fit(6.0, 3.0, 0.0, 4), 5) == Link(2.0, 3.0 * 5 / 8)


def test_bus_bandwidth() -> None:
    assert bus_bandwidth(1000, 0.5, 2) == 2000
    assert bus_bandwidth(1000, 0.5, 4) == 3000


def test_costs_on_one_level() -> None:
    for cluster in (FLAT, Cluster(LINK, Link(0.0, 0.0), 64)):  # a rank a node, or all on one
        assert ring(80, 8, cluster) == 14 * (2 + 10 * 3)
        assert doubling(80, 8, cluster) == 3 * (2 + 80 * 3)
        assert tree(80, 8, cluster) == 6 * (2 + 80 * 3)
    assert hierarchical(80, 8, FLAT) == 2 * 3 * 2 + 14 / 8 * 80 * 3
    assert hierarchical(80, 8, Cluster(LINK, Link(0.0, 0.0), 64)) == ring(80, 8, FLAT)
    assert tree(80, 5, FLAT) == tree(80, 8, FLAT)


def test_costs_on_two_levels() -> None:
    cluster = Cluster(Link(1.0, 2.0), Link(10.0, 20.0), 4)  # 16 ranks: 4 nodes of 4
    assert cluster.levels(16) == (4, 4)
    assert ring(160, 16, cluster) == 30 * (10 + 10 * 20)
    assert doubling(160, 16, cluster) == 2 * (1 + 160 * 2) + 2 * (10 + 4 * 160 * 20)
    assert tree(160, 16, cluster) == 2 * (2 * (1 + 160 * 2) + 2 * (10 + 160 * 20))
    assert hierarchical(160, 16, cluster) == 6 * (1 + 40 * 2) + 4 * 10 + 6 / 4 * 160 * 20
    assert cluster.levels(17) == (4, 5)


def test_a_ring_waits_for_its_slowest_message() -> None:
    cluster = Cluster(Link(0.0, 1.0), Link(50.0, 0.0), 2)
    assert ring(400, 4, cluster) == 6 * 100
    assert ring(100, 4, cluster) == 6 * 50


def test_one_rank_sends_nothing() -> None:
    assert [cost(100, 1, FLAT) for cost in ALGORITHMS.values()] == [0, 0, 0, 0]


def test_steps() -> None:
    assert step(3.0, 1.0).seconds == 4.0
    assert step(3.0, 1.0).efficiency == 0.75
    rows = predict(80, 100.0, FLAT, [2, 8])
    assert [row["ring"] for row in rows] == [step(100.0, ring(80, p, FLAT)) for p in (2, 8)]
    assert list(rows[0]) == ["ring", "doubling", "tree", "hierarchical"]
    assert all(math.isclose(one.seconds * one.efficiency, 100.0) for row in rows for one in row.values())
