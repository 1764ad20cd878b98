from hypothesis import given
from hypothesis import strategies as st

from distrain.dataset.sharding import share


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
