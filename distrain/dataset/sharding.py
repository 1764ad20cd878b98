"""Which part of something is a rank's: contiguous, in rank order, as even as whole samples allow."""

from __future__ import annotations


def share(total: int, rank: int, size: int) -> tuple[int, int]:
    """The part `[start, stop)` of `total` samples that belongs to a rank.

    The first `total % size` ranks get one sample more: 100 over 8 ranks is 13, 13, 13, 13, 12, 12, 12, 12.

    Args:
        total: samples of the job.
        rank: in `0 … size - 1`.
        size: number of ranks.
    """
    each, more = divmod(total, size)
    start = rank * each + min(rank, more)
    return start, start + each + (rank < more)
