from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SUITE = Path(__file__).with_name("exchange_suite.py")


def numbers(printed: str) -> dict[str, np.ndarray]:
    lines = [line.split() for line in printed.splitlines()]
    return {name: np.array(values, float) for name, *values in lines}


@pytest.mark.mpi
def test_training_is_the_same_on_any_number_of_ranks(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    alone = numbers(run_ranks(SUITE, 1, "1", python=mpi_python).check().stdout)
    assert len(alone) == 5
    for n in (2, 3, 4):
        together = numbers(run_ranks(SUITE, n, str(n), python=mpi_python).check().stdout)
        assert together.keys() == alone.keys()
        for name, values in alone.items():
            np.testing.assert_allclose(together[name], values, rtol=1e-5, err_msg=f"{name} on {n} ranks")


@pytest.mark.mpi
@pytest.mark.parametrize("n", [2, 4])
def test_all_ways_to_exchange_give_the_same(run_ranks: Callable[..., Any], n: int) -> None:
    check_modes(run_ranks, n)


@pytest.mark.mpi
def test_all_ways_to_exchange_give_the_same_by_every_mpi(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    check_modes(run_ranks, 3, python=mpi_python)


def check_modes(run_ranks: Callable[..., Any], n: int, **options: Any) -> None:
    result = run_ranks(SUITE.with_name("modes_suite.py"), n, str(n), **options).check()
    assert result.stdout.count("passed") == n
