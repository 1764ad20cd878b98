"""MultiprocessParallelUpdater on GPUs, with the real CuPy and NCCL; `make gpu-check` runs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distrain import cuda
from distrain.errors import DeviceError
from tests.gpu.test_gpu import DEVICE, why_not

SUITE = str(Path(__file__).parents[1] / "training" / "updaters" / "nccl_suite.py")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda.available, reason=why_not()),
    pytest.mark.filterwarnings("ignore:CUDA path could not be detected"),
]


def count() -> int:
    return int(cuda.require_cupy().cuda.runtime.getDeviceCount()) if cuda.available else 0


def train(mpi: Any, devices: list[Any], dtype: str = "f4") -> Any:
    done = mpi.run([sys.executable, SUITE, json.dumps(devices), dtype], timeout=100).check()
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("[")]
    return json.loads(line)


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_devices_on_one_gpu_sum_through_host_memory(mpi: Any, dtype: str) -> None:
    way, is_unused, weights = train(mpi, [DEVICE, DEVICE], dtype)
    assert (way, is_unused) == ("NoneType", True)
    np.testing.assert_allclose(weights, train(mpi, [-1, -1], dtype)[2], rtol=5e-3 if dtype == "f2" else 1e-5)


@pytest.mark.skipif(count() < 2, reason=f"NCCL wants different GPUs, of which there are {count()} here")
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_nccl_sums_the_gradients_of_different_gpus(mpi: Any, dtype: str) -> None:
    try:
        cuda.require_nccl()
    except DeviceError as error:
        pytest.skip(str(error))
    way, is_unused, weights = train(mpi, [0, 1], dtype)
    assert (way, is_unused) == ("NcclGradients", True)
    np.testing.assert_allclose(weights, train(mpi, [-1, -1], dtype)[2], rtol=5e-3 if dtype == "f2" else 1e-5)
