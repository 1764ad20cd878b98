"""Sums of arrays on GPUs. Real ranks, but CuPy is a stand-in: see stand_in/cupy; tests/gpu has the real one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
SUITE = HERE / "gpu_suite.py"

pytestmark = pytest.mark.mpi

SUMS = """
import cupy, numpy as np
from distrain import comm
world = comm.world()
x = cupy.array(np.ones(5, np.float32))
for _ in range(3):
    world.channel.allreduce(x)
"""


def env(**more: str) -> dict[str, str]:
    paths = [str(HERE / "stand_in"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths), **more}


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", env()["PYTHONPATH"])


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize(
    ("kind", "way"),
    [
        ("auto", "NcclSum"),
        ("nccl", "NcclSum"),
        ("staged", "StagedSum"),
        ("mpi", "StagedSum"),
        ("hierarchical", "NcclSum"),
    ],
)
def test_every_kind_sums_them(run_ranks: Callable[..., Any], mpi_python: str, kind: str, way: str, n: int) -> None:
    result = run_ranks(SUITE, n, kind, way, python=mpi_python, env={"DISTRAIN_COMM": kind}).check()
    assert result.stdout.count("passed") == n
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"STAND_IN_BUS": "0000:01:00.0"}, "ranks 0 and 1 are on the same GPU, 0000:01:00.0 of "),
        ({"STAND_IN_NCCL": "missing"}, "CuPy does not find NCCL"),
    ],
)
def test_where_nccl_cannot_be_it_goes_through_host_memory_unless_nccl_was_asked_for(
    run_ranks: Callable[..., Any], variables: dict[str, str], reason: str
) -> None:
    assert run_ranks(SUITE, 2, "auto", "StagedSum", env=variables).check().stdout.count("passed") == 2
    refused = run_ranks(SUMS, 2, env={"DISTRAIN_COMM": "nccl", **variables})
    assert refused.returncode == 1
    assert "DeviceError" in refused.stderr
    assert reason in refused.stderr


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("refused", "NCCL did not start. rank 0 ("),
        ("late", "it has not come to its end after 1.5 s (DISTRAIN_COLLECTIVE_TIMEOUT)"),
    ],
)
def test_a_start_that_fails_or_hangs_ends_on_all_ranks(run_ranks: Callable[..., Any], fault: str, text: str) -> None:
    variables = {"STAND_IN_NCCL": fault, "DISTRAIN_COLLECTIVE_TIMEOUT": "1.5"}
    result = run_ranks(SUMS, 2, timeout=40, env=variables)
    assert result.returncode == 1
    assert text in result.stderr
    assert "rank 1 (" in result.stderr
    assert "DISTRAIN_COMM=staged" in result.stderr


def test_an_error_during_a_sum_is_raised_and_nccl_aborted(run_ranks: Callable[..., Any]) -> None:
    result = run_ranks(SUMS, 2, timeout=40, env={"STAND_IN_NCCL": "error"})
    assert result.returncode == 1
    assert "NCCL failed in a sum of 5 float32: NCCL_ERROR_UNHANDLED_CUDA_ERROR" in result.stderr
    assert "aborted" in result.stdout


def test_a_sum_that_never_ends_ends_the_job(run_ranks: Callable[..., Any]) -> None:
    variables = {"STAND_IN_NCCL": "stopped", "DISTRAIN_COLLECTIVE_TIMEOUT": "1.2"}
    result = run_ranks(SUMS, 2, timeout=60, env=variables)
    assert result.returncode == 1
    assert "all ranks have come to it, but it has not ended after" in result.stderr
    assert "exchange 2 of gradients, sum of 5 float32" in result.stderr
