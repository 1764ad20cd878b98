"""Cutting a flat gradient into buckets that are sent while the backward pass works on the others. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bucket:
    """A slice of a group's buffer, and the parameters whose gradients lie in it.

    Attributes:
        group: number of the flat group.
        start, stop: the slice; that of the last bucket of a group goes on to the end of the buffer.
        first, last: numbers of its first and last parameter in the group.
    """

    group: int
    start: int
    stop: int
    first: int
    last: int


def cut(group: int, bounds: Sequence[tuple[int, int]], tail: int, size: int) -> list[Bucket]:
    """Cuts the buffer of a group between parameters.

    Args:
        group: number of the group.
        bounds: where the parameters lie in the buffer.
        tail: elements of the buffer after the last parameter.
        size: elements of a bucket; one is closed as soon as it has so many.
    """
    buckets, first = [], 0
    for i, (_, stop) in enumerate(bounds):
        start = bounds[first][0]
        is_last = i + 1 == len(bounds)
        if is_last or stop - start >= size:
            buckets.append(Bucket(group, start, stop + tail if is_last else stop, first, i))
            first = i + 1
    return buckets


def in_order(buckets: Sequence[Bucket], arrivals: Sequence[tuple[int, int]]) -> list[Bucket]:
    """Buckets in the order in which the backward pass completes them.

    The last one of each group comes at the end: its tail is complete only then.

    Args:
        buckets: of all groups.
        arrivals: (group, parameter) in the order in which the gradients became complete; those that are missing
            count as last.
    """
    place = {who: i for i, who in enumerate(arrivals)}
    ends = {bucket.group: bucket for bucket in buckets}

    def completed(bucket: Bucket) -> tuple[bool, int]:
        params = range(bucket.first, bucket.last + 1)
        latest = max(place.get((bucket.group, i), len(place)) for i in params)
        return ends[bucket.group] is bucket, latest

    return sorted(buckets, key=completed)  # stable: what completes together stays in the order of the buffer
