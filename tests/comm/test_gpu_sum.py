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


@pytest.mark.parametrize(
    ("kind", "way", "n"),
    [
        ("auto", "NcclSum", 2),
        ("nccl", "NcclSum", 3),
        ("staged", "StagedSum", 3),
        ("mpi", "StagedSum", 2),
        ("hierarchical", "NcclSum", 2),
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
        ("useless", "NcclError: NCCL_ERROR_UNHANDLED_CUDA_ERROR"),
    ],
)
def test_nccl_that_was_asked_for_and_does_not_start_ends_the_job_on_all_ranks(
    run_ranks: Callable[..., Any], fault: str, text: str
) -> None:
    variables = {"STAND_IN_NCCL": fault, "DISTRAIN_COLLECTIVE_TIMEOUT": "1.5", "DISTRAIN_COMM": "nccl"}
    result = run_ranks(SUMS, 2, timeout=40, env=variables)
    assert result.returncode == 1
    assert text in result.stderr
    assert "rank 1 (" in result.stderr
    assert "DISTRAIN_COMM=staged" in result.stderr


@pytest.mark.parametrize(
    ("kind", "fault", "variables", "way", "name"),
    [
        ("auto", "late", {}, "StagedSum", "host memory"),
        (
            "auto",
            "useless",
            {"STAND_IN_MPI": "yes", "DISTRAIN_COLLECTIVE_TIMEOUT": "30"},
            "GpuAwareSum",
            "MPI, which takes memory of GPUs",
        ),
        ("hierarchical", "mute", {}, "StagedSum", "host memory"),
    ],
)
def test_nccl_that_was_not_asked_for_and_does_not_start_is_left_out_with_a_warning(
    run_ranks: Callable[..., Any], kind: str, fault: str, variables: dict[str, str], way: str, name: str
) -> None:
    env = {"STAND_IN_NCCL": fault, "DISTRAIN_COLLECTIVE_TIMEOUT": "2", "DISTRAIN_COMM": kind, **variables}
    result = run_ranks(SUITE, 2, kind, way, timeout=60, env=env).check()
    assert result.stdout.count("passed") == 2
    assert result.stderr.count("UserWarning: NCCL did not start. rank ") == 1, result.stderr
    assert f"Sums of arrays on GPUs go through {name}." in result.stderr


# Memory of GPUs given to MPI


def test_mpi_that_takes_memory_of_gpus_sums_it(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    env = {"DISTRAIN_COMM": "gpu-aware", "STAND_IN_MPI": "yes"}
    result = run_ranks(SUITE, 3, "gpu-aware", "GpuAwareSum", python=mpi_python, env=env).check()
    assert result.stdout.count("passed") == 3
    assert result.stderr == ""


def test_it_comes_before_host_memory_where_nccl_cannot_be(run_ranks: Callable[..., Any]) -> None:
    env = {"STAND_IN_NCCL": "missing", "STAND_IN_MPI": "yes"}
    assert run_ranks(SUITE, 2, "auto", "GpuAwareSum", env=env).check().stdout.count("passed") == 2


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("crash", "the probe of it was ended by SIGSEGV"),
        ("hang", "the probe of it has not come to its end after 4 s (DISTRAIN_COLLECTIVE_TIMEOUT)"),
        ("wrong", "the probe of it ended with code 1: 1 numbers that were sent are others afterwards"),
    ],
)
def test_a_probe_that_does_not_agree_means_no_on_all_ranks(
    run_ranks: Callable[..., Any], mpi_python: str, fault: str, text: str
) -> None:
    env = {"STAND_IN_PROBE": fault, "STAND_IN_MPI": "yes", "DISTRAIN_COLLECTIVE_TIMEOUT": "4"}
    script = SUITE.read_text()
    refused = run_ranks(script, 2, "gpu-aware", "", python=mpi_python, env={"DISTRAIN_COMM": "gpu-aware", **env})
    assert refused.returncode == 1
    assert "DeviceError: MPI cannot sum memory of GPUs on rank 0 (" in refused.stderr
    assert text in refused.stderr


def test_with_auto_it_then_goes_through_host_memory(run_ranks: Callable[..., Any]) -> None:
    env = {"STAND_IN_PROBE": "crash", "STAND_IN_MPI": "yes", "STAND_IN_NCCL": "missing"}
    assert run_ranks(SUITE, 2, "auto", "StagedSum", env=env).check().stdout.count("passed") == 2


def test_an_mpi_that_does_not_say_that_it_takes_memory_of_gpus_is_not_tried(
    run_ranks: Callable[..., Any], mpi_python: str
) -> None:
    refused = run_ranks(SUMS, 2, python=mpi_python, env={"DISTRAIN_COMM": "gpu-aware", "STAND_IN_PROBE": "hang"})
    assert refused.returncode == 1
    assert "DeviceError: MPI cannot sum memory of GPUs on rank 0 (" in refused.stderr
    assert "was built without CUDA" in refused.stderr
    assert refused.seconds < 20


# What goes wrong later


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
