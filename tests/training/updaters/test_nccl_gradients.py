"""Gradients of several GPUs by NCCL. Real processes, but CuPy is a stand-in; tests/gpu has the real one."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SUITE = str(Path(__file__).with_name("nccl_suite.py"))
STAND_IN = str(Path(__file__).parents[2] / "comm" / "stand_in")


@pytest.fixture
def train(mpi: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the suite on three GPUs that are none."""
    paths = [STAND_IN, *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))

    def run(devices: list[Any], dtype: str = "f4", *args: str, timeout: float = 60.0, **variables: str) -> Any:
        env = {"STAND_IN_GPUS": "3", "STAND_IN_FOLDER": str(tmp_path), **variables}
        return mpi.run([sys.executable, SUITE, json.dumps(devices), dtype, *args], timeout=timeout, env=env)

    return run


def result_of(done: Any) -> Any:
    done.check()
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("[")]
    return json.loads(line)


@pytest.mark.parametrize(("count", "dtype"), [(2, "f4"), (2, "f2"), (3, "f8")])
def test_nccl_sums_the_gradients_of_different_gpus(train: Any, tmp_path: Path, count: int, dtype: str) -> None:
    done = train(list(range(count)), dtype)
    way, is_unused, weights = result_of(done)
    assert (way, is_unused) == ("NcclGradients", True)
    assert done.stderr == ""
    (group,) = tmp_path.iterdir()  # one number, which the main process has made and all others were told
    sums = {path.name for path in group.iterdir()}
    assert sums == {f"{call}-{rank}" for call in range(1, 7) for rank in range(count)}  # a trial, and five steps
    _, _, expected = result_of(train([-1] * count, dtype))
    if count == 2:  # in another order three numbers may have another sum
        assert weights == expected
    np.testing.assert_allclose(weights, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("devices", "variables"),
    [([0, 0], {}), ([0, -1], {}), ([1], {}), ([0, 1], {"DISTRAIN_COMM": "staged"}), ([0, 1], {"DISTRAIN_COMM": "mpi"})],
)
def test_other_devices_and_those_who_want_it_so_use_host_memory(
    train: Any, tmp_path: Path, devices: list[int], variables: dict[str, str]
) -> None:
    done = train(devices, **variables)
    assert result_of(done)[:2] == ["NoneType", True]
    assert done.stderr == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"STAND_IN_NCCL": "refused"}, "rank 1 ("),
        ({"STAND_IN_NCCL": "late"}, "it has not come to its end after 1.5 s (DISTRAIN_COLLECTIVE_TIMEOUT)"),
        ({"STAND_IN_NCCL": "useless"}, "NcclError: NCCL_ERROR_UNHANDLED_CUDA_ERROR"),
        ({"STAND_IN_NCCL": "mute"}, "NCCL did not start"),
        ({"STAND_IN_BUS": "0000:01:00.0"}, "ranks 0 and 1 are on the same GPU, 0000:01:00.0"),
    ],
)
def test_where_nccl_does_not_start_a_warning_says_why_and_training_goes_on(
    train: Any, variables: dict[str, str], reason: str
) -> None:
    done = train([0, 1], DISTRAIN_COLLECTIVE_TIMEOUT="1.5", **variables)
    way, is_unused, weights = result_of(done)
    assert (way, is_unused) == ("NoneType", True)
    assert done.stderr.count("UserWarning: NCCL ") == 1, done.stderr
    assert reason in done.stderr
    assert "Gradients go through host memory." in done.stderr
    assert weights == result_of(train([-1, -1]))[2]


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("killed", "WorkerError: worker 1 (device 1, pid "),
        ("error", "NCCL failed in a sum of 30 float32: NCCL_ERROR_UNHANDLED_CUDA_ERROR"),
    ],
)
def test_a_worker_that_is_lost_in_a_sum_ends_the_training_and_nccl(train: Any, fault: str, text: str) -> None:
    done = train([0, 1, 2], STAND_IN_NCCL=fault)
    assert done.returncode == 1
    assert text in done.stderr
    assert fault != "killed" or "was killed by SIGKILL" in done.stderr
    assert "aborted" in done.stdout
    assert done.seconds < 30


def test_a_worker_that_is_lost_while_nccl_starts_ends_the_training_and_nccl(train: Any) -> None:
    done = train([0, 1], STAND_IN_NCCL="lost", DISTRAIN_COLLECTIVE_TIMEOUT="1.5")
    assert done.returncode == 1
    assert "WorkerError: worker 1 (device 1, pid " in done.stderr
    assert "was killed by SIGKILL" in done.stderr
    assert "aborted" in done.stdout
    assert done.seconds < 30


def test_a_sum_that_never_ends_ends_the_training(train: Any) -> None:
    done = train([0, 1], STAND_IN_NCCL="stopped", DISTRAIN_COLLECTIVE_TIMEOUT="0.5")
    assert done.returncode == 1
    assert "WorkerError: worker 1 (device 1, pid " in done.stderr
    assert "has not answered for " in done.stderr
    assert "aborted" in done.stdout


def test_an_exception_in_a_worker_comes_before_the_sum(train: Any) -> None:
    done = train([0, 1], "f4", "forward")
    assert done.returncode == 1
    assert "raised ValueError: the cause" in done.stderr
    assert done.seconds < 30
