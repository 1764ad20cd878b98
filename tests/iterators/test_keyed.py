"""A permutation that is computed where it is asked for, and that must stay the same for ever."""

import hashlib
import math
import time

import numpy as np
import pytest

from distrain.iterators import keyed, order
from distrain.iterators.keyed import KeyedOrder

BLOCK = 1 << 14


def keyed_order(length, seed=0, epoch=0):
    return KeyedOrder(length, np.random.Philox(key=np.array([seed, epoch], np.uint64)))


LENGTHS = [*range(2, 70), *(2**k + d for k in range(7, 17) for d in (-1, 0, 1)), 99_991, 3 * BLOCK]


@pytest.mark.parametrize("length", LENGTHS)
def test_every_sample_stands_once(length):
    for seed in range(8 if length < 70 else 1):
        own = keyed_order(length, seed)
        found = own[:]
        assert found.dtype == np.intp
        assert len(found) == len(own) == length
        assert np.array_equal(np.sort(found), np.arange(length))


@pytest.mark.parametrize("length", [2, 3, 4])
def test_every_order_of_a_few_occurs_about_as_often(length):
    counts = {}
    total = 400 * math.factorial(length)
    for seed in range(min(total, 1500)):
        own = tuple(keyed_order(length, seed)[:].tolist())
        counts[own] = counts.get(own, 0) + 1
    assert len(counts) == math.factorial(length)
    expected = min(total, 1500) / math.factorial(length)
    assert all(abs(count - expected) < 6 * expected**0.5 for count in counts.values())


@pytest.mark.parametrize(
    "span", [(0, 0), (0, 1), (5, 5), (0, BLOCK), (BLOCK - 3, BLOCK + 4), (5, 3 * BLOCK + 1), (40_000, 50_000)]
)
def test_spans_are_parts_of_the_whole(span):
    start, stop = span
    own = keyed_order(50_000, 3)
    whole = keyed_order(50_000, 3).at(np.arange(50_000, dtype=np.uint64))
    for _ in range(2):  # from a kept block, too
        found = own[start:stop]
        assert found.dtype == np.intp
        assert np.array_equal(found, whole[start:stop])
    assert len(own[49_999:99_999]) == 1


def test_access_in_any_order_of_blocks():
    own, fresh = keyed_order(10 * BLOCK + 5, 1), keyed_order(10 * BLOCK + 5, 1)
    whole = fresh[:]
    for number in np.random.default_rng(0).permutation(10):
        start = int(number) * BLOCK + 7
        assert np.array_equal(own[start : start + 100], whole[start : start + 100])


@pytest.mark.parametrize("length", [10**9, 10**12, 2**40, 2**40 + 1, 2**62])
def test_any_position_of_a_huge_epoch_costs_the_same(length):
    own = keyed_order(length, 5)
    positions = [0, 1, length // 3, length // 2, length - 100]
    began = time.perf_counter()
    found = [own[at : at + 100] for at in positions]
    assert time.perf_counter() - began < 5
    assert all(len(part) == 100 and part.min() >= 0 and part.max() < length for part in found)
    assert len(np.unique(np.concatenate(found))) == len(
        np.unique(np.concatenate([np.arange(a, a + 100) for a in positions]))
    )
    assert own._block[1].nbytes <= 8 * BLOCK  # all that is kept


def test_no_order_is_to_be_seen():
    """Statistics of a random permutation, each far inside of six standard deviations."""
    length = 200_000
    for seed in range(3):
        found = keyed_order(length, seed)[:].astype(np.float64)
        positions = np.arange(length)
        assert abs(np.corrcoef(positions, found)[0, 1]) < 6 / length**0.5
        assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 6 / length**0.5
        assert np.count_nonzero(found == positions) < 10  # fixed points: 1 on average
        assert np.count_nonzero(np.diff(found) == 1) < 10  # neighbours that stay neighbours: 1 on average
        ups = np.count_nonzero(np.diff(found) > 0)
        assert abs(ups - length / 2) < 6 * (length / 12) ** 0.5
        for bit in range(17):  # each bit of a sample's index is a fair coin, whatever the bits of the position are
            for other in range(17):
                agree = np.count_nonzero((found.astype(int) >> bit & 1) == (positions >> other & 1)) / length
                expected = np.mean(positions >> bit & 1), np.mean(positions >> other & 1)
                both = expected[0] * expected[1] + (1 - expected[0]) * (1 - expected[1])
                assert abs(agree - both) < 6 * 0.5 / length**0.5


def test_epochs_and_seeds_have_orders_of_their_own():
    length = 100_000
    orders = [keyed_order(length, seed, epoch)[:] for seed, epoch in [(0, 0), (0, 1), (1, 0), (1, 1), (2**62, 0)]]
    for i, one in enumerate(orders):
        for other in orders[:i]:
            assert np.count_nonzero(one == other) < 12  # 1 on average
            assert abs(np.corrcoef(one, other)[0, 1]) < 6 / length**0.5


PINNED = [
    (2, 0, 0, 0, [0, 1]),
    (10, 7, 3, 0, [9, 7, 6, 5, 1, 3, 2, 4, 0, 8]),
    (1_000_003, 7, 3, 500_000, [666195, 863501, 504636, 505679, 98356, 871710, 347143, 877092, 213164, 990931]),
    (
        10**12,
        2**63 - 1,
        41,
        999_999_999_990,
        [
            264162288741,
            613043511158,
            509928373776,
            867937606225,
            246796906451,
            122323162119,
            234693683358,
            324658617587,
            566593402683,
            405004073922,
        ],
    ),
]


@pytest.mark.parametrize(("length", "seed", "epoch", "start", "expected"), PINNED)
def test_the_order_is_what_it_always_was(length, seed, epoch, start, expected):
    assert keyed_order(length, seed, epoch)[start : start + 10].tolist() == expected


def test_a_whole_epoch_is_what_it_always_was():
    found = keyed_order(300_000, 1, 2)[:].astype("<i8")
    assert (
        hashlib.sha256(found.tobytes()).hexdigest()
        == "1b0a7916e8f1915836c73dca2c1dcf88c53e5df3e6fcac2e1df5b43ddfce7f59"
    )


def test_it_is_the_order_of_large_epochs():
    assert isinstance(order.permutation(0, 0, (1 << 20) + 1), KeyedOrder)
    assert isinstance(order.permutation(0, 0, 1 << 20), np.ndarray)
    large = order.permutation(4, 2, 10**9)
    assert np.array_equal(large[10**8 : 10**8 + 5], keyed_order(10**9, 4, 2)[10**8 : 10**8 + 5])
    assert keyed._BLOCK == BLOCK
