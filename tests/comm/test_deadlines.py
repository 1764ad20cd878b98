from __future__ import annotations

from distrain.comm.deadlines import Deadlines


def test_without_long_waits_it_is_the_floor() -> None:
    limits = Deadlines(30.0)
    assert limits.limit_s("sum", 0) == 30.0
    limits.add("barrier", 60.0)
    assert limits.limit_s("sum", 5) == 30.0
    limits.add("sum", 2.0)
    assert limits.limit_s("sum", 5) == 30.0


def test_it_is_five_times_what_one_in_a_hundred_exceeds() -> None:
    limits = Deadlines(30.0)
    for seconds in (10.0, 70.0, 20.0):
        limits.add("barrier", seconds)
    assert limits.limit_s("barrier", 3) == 350.0
    assert limits.limit_s("barrier", 99) == 350.0
    assert limits.limit_s("barrier", 100) == 100.0  # 70 s is the exception
    assert limits.limit_s("barrier", 200) == 50.0
    assert limits.limit_s("barrier", 300) == 30.0
