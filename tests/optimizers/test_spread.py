from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).with_name("spread_suite.py")


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_training_is_the_same_with_state_that_is_spread(run_ranks: Callable[..., Any], n: int, mpi_python: str) -> None:
    result = run_ranks(SUITE, n, str(n), python=mpi_python, timeout=110).check()
    assert result.stdout.count("passed") == n
