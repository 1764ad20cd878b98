from __future__ import annotations

import threading
from fractions import Fraction

import pytest

from distrain import minibatch
from distrain.dataset.sharding import share as bounds
from distrain.minibatch import Share


@pytest.mark.parametrize(("count", "total", "weight"), [(13, 100, 0.13), (1, 1, 1.0), (0, 3, 0.0), (0, 0, 0.0)])
def test_a_weight_is_the_part_of_the_samples(count: int, total: int, weight: float) -> None:
    assert Share(0, 0, count, total).weight == weight


@pytest.mark.parametrize(("total", "size"), [(100, 8), (3, 4), (1, 5), (64, 2)])
def test_the_weights_of_all_ranks_make_the_mean(total: int, size: int) -> None:
    parts = [bounds(total, rank, size) for rank in range(size)]
    shares = [Share(0, start, stop - start, total, size) for start, stop in parts]
    assert sum(Fraction(share.count, share.total) for share in shares) == 1
    assert sum(share.weight for share in shares) == pytest.approx(1)


def test_nothing_is_announced_at_first_and_none_takes_it_back() -> None:
    assert minibatch.current() is None
    share = Share(7, 13, 13, 100)
    minibatch.announce(share)
    assert minibatch.current() is share
    minibatch.announce(None)
    assert minibatch.current() is None


def test_every_thread_has_its_own() -> None:
    seen: list[Share | None] = []

    def work() -> None:
        seen.append(minibatch.current())
        minibatch.announce(Share(1, 0, 1, 1))
        seen.append(minibatch.current())

    mine = Share(0, 0, 2, 2)
    minibatch.announce(mine)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join(10)
    assert seen == [None, Share(1, 0, 1, 1)]
    assert minibatch.current() is mine


def test_a_share_is_a_value() -> None:
    share = Share(step=1, start=2, count=3, total=4)
    assert share == Share(1, 2, 3, 4, None)
    assert share != Share(1, 2, 3, 4, ranks=2)
    with pytest.raises(AttributeError):
        share.count = 4  # type: ignore[misc]
