"""Which part of something is a rank's: contiguous, in rank order, as even as whole samples allow."""

from __future__ import annotations

from distrain import reproducible
from distrain.errors import ArgumentError


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


def rank_share(total: int, rank: int, size: int) -> tuple[int, int]:
    """The part of a minibatch that belongs to a rank: its `share`, or in reproducible mode its whole shards.

    Args:
        total: samples of the minibatch.
        rank: in `0 … size - 1`.
        size: number of ranks.

    Raises:
        ArgumentError: reproducible mode has fewer shards than there are ranks.
    """
    if not reproducible.shards():
        return share(total, rank, size)
    bounds = rank_shards(total, rank, size)
    return bounds[0][1], bounds[-1][2]


def rank_shards(total: int, rank: int, size: int) -> list[tuple[int, int, int]]:
    """In reproducible mode, the shards of a rank: the number of each, and its part `[start, stop)` of the minibatch.

    Args:
        total: samples of the minibatch.
        rank: in `0 … size - 1`.
        size: number of ranks.

    Raises:
        ArgumentError: there are fewer shards than ranks.
    """
    shards = reproducible.shards()
    if size > shards:
        raise ArgumentError(
            f"reproducible mode cuts a minibatch into {shards} shards, too few for {size} ranks. Use fewer ranks, or "
            f"more shards on every number of ranks: {reproducible.VARIABLE}={size}."
        )
    first, last = share(shards, rank, size)
    return [(shard, *share(total, shard, shards)) for shard in range(first, last)]
