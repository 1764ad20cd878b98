"""The same bits on any number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).with_name("reproducible_suite.py")
ENV = {"DISTRAIN_REPRODUCIBLE": "1", "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}


@pytest.mark.mpi
def test_weights_and_logs_have_the_same_bits_on_any_number_of_ranks(
    run_ranks: Callable[..., Any], mpi_python: str, tmp_path: Path
) -> None:
    alone = run_ranks(SUITE, 1, str(tmp_path / "1"), "0", "12", python=mpi_python, env=ENV).check().stdout
    assert len(alone.splitlines()) == 3
    for n in (2, 3, 4, 8):
        result = run_ranks(SUITE, n, str(tmp_path / str(n)), "0", "12", python=mpi_python, env=ENV).check()
        assert result.stdout == alone, n
    # A run that stops, and goes on with another number of ranks.
    run_ranks(SUITE, 4, str(tmp_path / "cut"), "0", "4", python=mpi_python, env=ENV).check()
    for n, begin, end in ((1, "4", "8"), (2, "8", "12")):
        resumed = run_ranks(SUITE, n, str(tmp_path / "cut"), begin, end, python=mpi_python, env=ENV).check().stdout
    mlp, cnn, _ = zip(resumed.splitlines(), alone.splitlines(), strict=True)  # the state of an LSTM is not saved
    assert mlp[0] == mlp[1]
    assert cnn[0] == cnn[1]


@pytest.mark.mpi
def test_state_that_is_spread_changes_no_bit(run_ranks: Callable[..., Any], tmp_path: Path) -> None:
    alone = run_ranks(SUITE, 1, str(tmp_path / "1"), "0", "12", env=ENV).check().stdout
    for n in (2, 3):
        spread = run_ranks(SUITE, n, str(tmp_path / str(n)), "0", "12", "sharded", env=ENV).check().stdout
        assert spread == alone, n
    # Snapshots go from one number of ranks to another, with and without.
    run_ranks(SUITE, 3, str(tmp_path / "cut"), "0", "4", "sharded", env=ENV).check()
    run_ranks(SUITE, 1, str(tmp_path / "cut"), "4", "8", env=ENV).check()
    resumed = run_ranks(SUITE, 2, str(tmp_path / "cut"), "8", "12", "sharded", env=ENV).check().stdout
    mlp, cnn, _ = zip(resumed.splitlines(), alone.splitlines(), strict=True)  # the state of an LSTM is not saved
    assert mlp[0] == mlp[1]
    assert cnn[0] == cnn[1]


def test_other_shards_give_other_bits(run_ranks: Callable[..., Any], tmp_path: Path) -> None:
    outputs = {
        run_ranks(SUITE, 1, str(tmp_path / shards), "0", "4", env={"DISTRAIN_REPRODUCIBLE": shards}).check().stdout
        for shards in ("8", "7", "8")
    }
    assert len(outputs) == 2
