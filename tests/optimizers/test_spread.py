from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).with_name("spread_suite.py")


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 2, 4])
def test_training_is_the_same_with_state_that_is_spread(run_ranks: Callable[..., Any], n: int) -> None:
    check(run_ranks, n)


@pytest.mark.mpi
def test_training_is_the_same_with_state_that_is_spread_by_every_mpi(
    run_ranks: Callable[..., Any], mpi_python: str
) -> None:
    check(run_ranks, 3, python=mpi_python)


def check(run_ranks: Callable[..., Any], n: int, **options: Any) -> None:
    result = run_ranks(SUITE, n, str(n), timeout=110, **options).check()
    assert result.stdout.count("passed") == n
