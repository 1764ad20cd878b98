from __future__ import annotations

import sys

import numpy as np
import pytest

from distrain import comm, optimizers
from distrain.errors import ArgumentError
from distrain.optimizers.exchange_plan import (
    ExchangePlan,
    ExchangeSettings,
    candidates,
    choose,
    settings_of,
)

MIB = 2**20


@pytest.mark.parametrize(
    ("how", "nbytes", "size", "expected"),
    [
        ("auto", 1000, 2, [None]),
        ("auto", 8 * MIB, 2, [None, MIB, 4 * MIB]),
        ("auto", 1000, 3, [None]),
        ("auto", 8 * MIB, 3, [4 * MIB]),
        ("measure", 64 * MIB, 3, [None, MIB, 4 * MIB, 16 * MIB]),
        ("direct", 64 * MIB, 2, [None]),
        ("buckets", 10, 2, [4 * MIB]),
    ],
)
def test_candidates(how: str, nbytes: int, size: int, expected: list[int | None]) -> None:
    assert candidates(ExchangeSettings(how), nbytes, size) == expected  # type: ignore[arg-type]


def test_buckets_must_be_clearly_faster() -> None:
    assert choose([None, 1, 2], [1.0, 0.99, 0.98]) is None
    assert choose([None, 1, 2], [1.0, 0.9, 0.8]) == 2
    assert choose([None, 1, 2], [1.0, 1.1, 1.2]) is None


def run(plan: ExchangePlan, arrivals: list[tuple[int, int]]) -> int | None:
    plan.begin()
    assert plan.is_stepping
    size = plan.bucket_bytes
    plan.end(comm.local(), arrivals)
    assert not plan.is_stepping
    return size


def test_a_plan_learns_the_order_measures_and_settles() -> None:
    plan = ExchangePlan(ExchangeSettings("measure"), 8 * MIB, 2, may_thread=True)
    assert plan.wants_arrivals
    assert run(plan, [(0, 1), (0, 0)]) is None
    assert plan.arrivals == [(0, 1), (0, 0)]
    tried = [run(plan, []) for _ in range(12)]
    assert tried == [None, MIB, 4 * MIB] * 4
    assert plan.is_settled
    assert plan.arrivals == [(0, 1), (0, 0)]
    assert len({run(plan, []) for _ in range(5)}) == 1


def test_a_plan_without_choice() -> None:
    assert ExchangePlan(ExchangeSettings("direct"), 8 * MIB, 2, may_thread=True).is_settled
    assert ExchangePlan(ExchangeSettings("buckets"), 8 * MIB, 2, may_thread=False).bucket_bytes is None
    plan = ExchangePlan(ExchangeSettings("buckets", 77), 8 * MIB, 2, may_thread=True)
    assert [run(plan, []) for _ in range(3)] == [None, 77, 77]


def test_the_variable() -> None:
    local = comm.local()
    assert settings_of(local, {}) == ExchangeSettings()
    assert settings_of(local, {"DISTRAIN_EXCHANGE": "direct"}).how == "direct"
    assert settings_of(local, {"DISTRAIN_EXCHANGE": "buckets:1000"}) == ExchangeSettings("buckets", 1000)
    for wrong in ("fast", "direct:7", "buckets:many", "buckets:0"):
        with pytest.raises(ArgumentError):
            settings_of(local, {"DISTRAIN_EXCHANGE": wrong})


def test_settings_that_cannot_be() -> None:
    optimizer = optimizers.SGD()
    with pytest.raises(ArgumentError, match="'fast' is none"):
        optimizer.use_exchange("fast")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="positive number of bytes, not 0"):
        optimizer.use_exchange("buckets", bucket_bytes=0)
    with pytest.raises(ArgumentError, match="not as int8"):
        optimizer.use_exchange(dtype=np.int8)


def test_bfloat16_without_ml_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ArgumentError, match=r"pip install 'distrain\[bfloat16\]'"):
        optimizers.SGD().use_exchange(dtype="bfloat16")
