from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).with_name("suite.py")


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 2, 3, 4])
@pytest.mark.parametrize("kind", ["auto", "mpi", "hierarchical", "staged"])
def test_every_communicator_passes_the_suite(run_ranks: Callable[..., Any], n: int, kind: str, mpi_python: str) -> None:
    result = run_ranks(SUITE, n, str(n), kind, python=mpi_python, env={"DISTRAIN_COMM": kind}).check()
    assert result.stdout.count("passed") == n
    assert result.stderr == ""
