"""Sums of which each rank gets a part, and parts that become a whole: two halves of an all-reduce, on flat host arrays.

Both are collective calls without a comparison before, like those of the channel that they go through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.comm.channel import Bounds, Channel
from distrain.comm.half import is_half, round_to

_WINDOW = 2**18  # elements that arrive at a time: they stay in the cache, and need little memory


def clip(bounds: Bounds, start: int, stop: int) -> list[tuple[int, int]]:
    """What lies in the slice `[start, stop)` of each part, counted from `start`."""
    inside = [(max(a, start), min(b, stop)) for a, b in bounds]
    return [(a - start, b - start) if a < b else (0, 0) for a, b in inside]


def reduce_scatter(channel: Channel, rank: int, flat: NDArray[Any], bounds: Bounds, out: NDArray[Any]) -> None:
    """Sums an array over the ranks, of which each gets its own part.

    Terms are added in the order of the ranks, those of 16 bits in float32 and rounded once. So a sum has the same bits
    in however many pieces the array is sent.

    Args:
        channel: of the ranks.
        rank: of this process.
        flat: the array; not changed, but where `out` lies.
        bounds: each rank's part of it; together they may leave something out.
        out: where this rank's part of the sum goes; the dtype of `flat`, and possibly this rank's part of it.
    """
    done = 0
    for first, last in _windows(flat.size, channel.max_count):
        inside = clip(bounds, first, last)
        width = inside[rank][1] - inside[rank][0]
        _scatter(channel, flat[first:last], inside, out[done : done + width])
        done += width


def _scatter(channel: Channel, flat: NDArray[Any], bounds: Bounds, out: NDArray[Any]) -> None:
    """`reduce_scatter` of an array that is not too long for one call."""
    size = len(bounds)
    step = max(1, _WINDOW // size)
    arrived = np.empty(size * min(step, out.size), flat.dtype)
    for offset in range(0, max(stop - start for start, stop in bounds), step):
        give = [(min(start + offset, stop), min(start + offset + step, stop)) for start, stop in bounds]
        target = out[offset : offset + step]
        width = target.size
        taken = arrived[: size * width]
        channel.alltoall(flat, give, taken, [(r * width, (r + 1) * width) for r in range(size)])
        if width:
            _add(taken.reshape(size, width), target)


def _add(rows: NDArray[Any], out: NDArray[Any]) -> None:
    if is_half(rows.dtype):
        wide = rows[0].astype(np.float32)
        for row in rows[1:]:
            wide += row
        round_to(wide, out)
        return
    if len(rows) == 1:
        out[...] = rows[0]
        return
    np.add(rows[0], rows[1], out=out)
    for row in rows[2:]:
        out += row


def allgather(channel: Channel, flat: NDArray[Any], bounds: Bounds) -> None:
    """Fills in what the other ranks have, in place: each rank brings its own part of the array.

    Args:
        channel: of the ranks.
        flat: the array.
        bounds: each rank's part of it.
    """
    for first, last in _windows(flat.size, channel.max_count):
        channel.allgather(flat[first:last], clip(bounds, first, last))


def _windows(count: int, size: int) -> Iterator[tuple[int, int]]:
    for first in range(0, count, size):
        yield first, min(first + size, count)
