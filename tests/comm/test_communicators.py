from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).with_name("suite.py")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("kind", "n"),
    [*[(kind, n) for kind in ("auto", "hierarchical") for n in (1, 2, 3, 4)], ("mpi", 2), ("mpi", 3), ("staged", 2)],
)
def test_every_communicator_passes_the_suite(run_ranks: Callable[..., Any], kind: str, n: int, mpi_python: str) -> None:
    result = run_ranks(SUITE, n, str(n), kind, python=mpi_python, env={"DISTRAIN_COMM": kind}).check()
    assert result.stdout.count("passed") == n
    assert result.stderr == ""
