import pytest
from hypothesis import given
from hypothesis import strategies as st

from distrain import set_reproducible
from distrain.dataset.sharding import rank_shards, rank_share, share
from distrain.errors import ArgumentError


def test_hundred_over_eight():
    parts = [share(100, rank, 8) for rank in range(8)]
    assert [stop - start for start, stop in parts] == [13, 13, 13, 13, 12, 12, 12, 12]


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_parts_are_the_whole_and_even(total, size):
    parts = [share(total, rank, size) for rank in range(size)]
    assert parts[0][0] == 0
    assert parts[-1][1] == total
    assert all(before[1] == after[0] for before, after in zip(parts[:-1], parts[1:], strict=True))
    counts = [stop - start for start, stop in parts]
    assert max(counts) - min(counts) <= 1
    assert counts == sorted(counts, reverse=True)


def test_in_reproducible_mode_ranks_get_whole_shards():
    assert rank_share(100, 1, 3) == (34, 67)
    try:
        set_reproducible(shards=8)
        for size in (1, 2, 3, 8):
            shards = [shard for rank in range(size) for shard in rank_shards(100, rank, size)]
            assert [number for number, *_ in shards] == list(range(8))
            assert [bounds for _, *bounds in shards] == [[*share(100, i, 8)] for i in range(8)]
            for rank in range(size):
                own = rank_shards(100, rank, size)
                assert rank_share(100, rank, size) == (own[0][1], own[-1][2])
        with pytest.raises(ArgumentError, match="8 shards, too few for 9 ranks.*DISTRAIN_REPRODUCIBLE=9"):
            rank_share(100, 0, 9)
    finally:
        set_reproducible(False)
