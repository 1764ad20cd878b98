from __future__ import annotations

from distrain.comm.waits import Op, Waiting, find_late, is_stuck


def op(name: str, *ranks: int) -> Op:
    return Op((name,), ranks, f"waits in {name}")


def waiting(*ops: Op, first: float = 0.0, last: float = 10.0, seconds: float = 5.0, limit: float = 8.0) -> Waiting:
    return Waiting(list(ops), first, last, seconds, limit)


def late(known: dict[int, Waiting], now: float = 10.0) -> tuple[Op | None, frozenset[int]]:
    return find_late(known, now, silence_s=5.0)


A, B, PAIR, OTHERS = op("a", 0, 1, 2), op("b", 0, 1, 2), op("pair", 0, 1), op("others", 2, 3)


def test_ranks_in_different_things_are_stuck() -> None:
    assert is_stuck({0: waiting(A), 1: waiting(A), 2: waiting(B)}, 3)
    assert is_stuck({0: waiting(PAIR), 1: waiting(A), 2: waiting(A)}, 3)


def test_what_all_have_come_to_goes_on() -> None:
    assert not is_stuck({0: waiting(A), 1: waiting(A), 2: waiting(A)}, 3)
    assert not is_stuck({0: waiting(PAIR), 1: waiting(PAIR), 2: waiting(OTHERS)}, 3)  # others may wait for rank 3
    assert not is_stuck({0: waiting(A, PAIR), 1: waiting(B, PAIR), 2: waiting(B)}, 3)  # one of two threads goes on


def test_a_rank_that_works_can_still_come() -> None:
    assert not is_stuck({0: waiting(A), 2: waiting(B)}, 3)


def test_old_news_prove_nothing() -> None:
    early, later = waiting(A, first=0.0, last=3.0), waiting(B, first=4.0, last=8.0)
    assert not is_stuck({0: early, 1: later, 2: later}, 3)
    both = waiting(A, first=0.0, last=5.0)
    assert is_stuck({0: both, 1: later, 2: later}, 3)


def test_who_is_late() -> None:
    known = {0: waiting(A, seconds=9.0, limit=10.0), 2: waiting(A, seconds=1.0)}
    assert late(known) == (None, frozenset())
    known[0].limit_s = 8.0
    assert late(known) == (A, {1})
    assert late({0: waiting(PAIR, seconds=9.0), 1: waiting(PAIR)}) == (None, frozenset())
    assert late({0: waiting(B, seconds=9.0), 1: waiting(B), 2: waiting(A)}) == (B, {2})


def test_who_has_come_and_fell_silent_is_late() -> None:
    known = {0: waiting(A, seconds=9.0, last=14.0), 1: waiting(A, last=9.5), 2: waiting(A, last=14.0)}
    assert late(known, now=14.0) == (None, frozenset())
    assert late(known, now=15.0) == (A, {1})


def test_who_has_been_through_is_not_late() -> None:
    lane = ("collective", 0, 0)
    third, fourth, other = [Op((*lane, n), (0, 1, 2), "", "bcast", lane, n) for n in (3, 4, 2)]
    known = {0: waiting(third, seconds=9.0), 1: waiting(fourth), 2: waiting(fourth)}
    assert late(known) == (None, frozenset())
    assert not is_stuck(known, 3)
    assert late({0: waiting(third, seconds=9.0), 1: waiting(fourth), 2: waiting(other)}) == (third, {2})
    assert is_stuck({0: waiting(A), 1: waiting(fourth), 2: waiting(third)}, 3)
