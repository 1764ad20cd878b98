from __future__ import annotations

import pytest

from distrain.optimizers.buckets import Bucket, cut, in_order

BOUNDS = [(0, 4), (4, 5), (5, 9), (9, 10)]


@pytest.mark.parametrize(
    ("size", "slices"),
    [
        (1, [(0, 4), (4, 5), (5, 9), (9, 13)]),
        (4, [(0, 4), (4, 9), (9, 13)]),
        (5, [(0, 5), (5, 13)]),
        (6, [(0, 9), (9, 13)]),
        (100, [(0, 13)]),
    ],
)
def test_cut(size: int, slices: list[tuple[int, int]]) -> None:
    buckets = cut(3, BOUNDS, 3, size)
    assert [(bucket.start, bucket.stop) for bucket in buckets] == slices
    assert [i for b in buckets for i in range(b.first, b.last + 1)] == [0, 1, 2, 3]
    assert {bucket.group for bucket in buckets} == {3}


def test_buckets_are_sent_in_the_order_in_which_they_are_completed() -> None:
    buckets = cut(0, BOUNDS, 3, 1) + cut(1, [(0, 2), (2, 4)], 3, 1)

    def order(arrivals: list[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(bucket.group, bucket.first) for bucket in in_order(buckets, arrivals)]

    ends = [(0, 3), (1, 1)]
    assert order([]) == [(0, 0), (0, 1), (0, 2), (1, 0), *ends]
    assert order([(1, 0), (1, 1), (0, 3), (0, 2), (0, 0), (0, 1)]) == [(1, 0), (0, 2), (0, 0), (0, 1), (1, 1), (0, 3)]
    assert order([(0, 2)]) == [(0, 2), (0, 0), (0, 1), (1, 0), *ends]
    pair = [Bucket(0, 0, 5, 0, 1), Bucket(0, 5, 9, 2, 2), Bucket(0, 9, 13, 3, 3)]
    assert in_order(pair, [(0, 0), (0, 2), (0, 1)]) == [pair[1], pair[0], pair[2]]  # the latest of a bucket counts
