"""Ranks that sum arrays on a GPU: through host memory, by NCCL, and by MPI itself; `make gpu-check` runs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from distrain import cuda
from distrain.errors import DeviceError
from tests.gpu.test_gpu import DEVICE, why_not

SUITE = Path(__file__).parents[1] / "comm" / "gpu_suite.py"

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.mpi,
    pytest.mark.skipif(not cuda.available, reason=why_not()),
    pytest.mark.filterwarnings("ignore:CUDA path could not be detected"),
]

TRAINING = f"""
import json
import numpy as np
import distrain.functions as F
import distrain.links as L
from distrain import comm, cuda, optimizers
world = comm.world()
xp = cuda.require_cupy()
cuda.get_device({DEVICE}).use()
shown = []
for dtype in (np.float16, np.float32, np.float64, np.int32):
    x = xp.arange(6, dtype=dtype).reshape(2, 3) * (world.rank + 1)
    world.allreduce(x, out=x)
    assert isinstance(x, xp.ndarray) and x.dtype == dtype
    shown.append(x.tolist())
wide = xp.zeros((3, 4), np.float32)
wide[:, ::2] = world.rank + 1
part = wide[:, ::2]
world.allreduce(part, out=part)
shown.append(wide.tolist())
y = xp.full((2, 2), world.rank, np.float32).T
world.bcast(y, root=1, out=y)
shown.append(y.tolist())
model = L.Linear(3, 2, initialW=world.rank + 1).to_device({DEVICE})
optimizer = optimizers.Adam(0.1).setup(model)
with xp.cuda.Stream(non_blocking=True):
    for _ in range(3):
        optimizer.update(lambda: F.sum(model(xp.full((2, 3), world.rank + 1, np.float32))))
    shown.append(model.W.array.tolist())
everything = world.gather_obj(shown)
if everything:
    print(json.dumps(everything))
"""


@pytest.mark.parametrize("exchange", ["direct", "buckets:8"])
def test_ranks_exchange_arrays_of_a_gpu(run_ranks: Callable[..., Any], exchange: str) -> None:
    everything = json.loads(run_ranks(TRAINING, 2, env={"DISTRAIN_EXCHANGE": exchange}).check().stdout)
    assert everything[0] == everything[1]
    *sums, wide, sent, weights = everything[0]
    for total in sums:
        assert total == [[0, 3, 6], [9, 12, 15]]
    assert wide == [[3, 0, 3, 0]] * 3
    assert sent == [[1, 1], [1, 1]]
    np.testing.assert_allclose(weights, np.full((2, 3), 0.7), rtol=1e-5)  # rank 0's ones, three steps of Adam


STREAMS = f"""
import numpy as np
import distrain.functions as F
import distrain.links as L
from distrain import comm, cuda, optimizers
world = comm.world()
xp = cuda.require_cupy()
cuda.get_device({DEVICE}).use()
found = []
for how in ("direct", "buckets", "double"):
    model = L.Sequential(*[L.Linear(512, 512, initialW=np.eye(512, dtype=np.float32)) for _ in range(8)])
    optimizer = optimizers.SGD(1e-7).setup(model.to_device({DEVICE}))
    optimizer.use_exchange(how, bucket_bytes=2**20)
    with xp.cuda.Stream(non_blocking=True):
        x = xp.full((256, 512), world.rank + 1, np.float32)
        busy = xp.ones((2000, 2000), np.float32)
        for _ in range(5):
            for _ in range(10):
                busy = busy @ busy / 2000  # what comes after it on this stream comes late
            optimizer.update(lambda: F.sum(model(x)))
        found.append(np.concatenate([cuda.to_cpu(p.array).ravel() for p in model.params()]))
    assert len(set(world.allgather_obj(found[-1].tobytes()))) == 1, how
np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-8)
assert not np.allclose(found[2], found[0], rtol=1e-5, atol=1e-8)  # a step late
print("passed", flush=True)
"""


def test_gradients_are_sent_when_they_are_there(run_ranks: Callable[..., Any]) -> None:
    assert run_ranks(STREAMS, 2, timeout=100).check().stdout.count("passed") == 2


@pytest.mark.parametrize("kind", ["mpi", "staged"])
def test_ranks_on_one_gpu_sum_through_host_memory(run_ranks: Callable[..., Any], kind: str) -> None:
    result = run_ranks(SUITE, 3, kind, "StagedSum", timeout=100, env={"DISTRAIN_COMM": kind}).check()
    assert result.stdout.count("passed") == 3


# NCCL


def require_nccl() -> None:
    try:
        cuda.require_nccl()
    except DeviceError as error:
        pytest.skip(str(error))


def test_nccl_sums_for_one_rank(run_ranks: Callable[..., Any]) -> None:
    require_nccl()
    env = {"DISTRAIN_COMM": "nccl"}
    result = run_ranks(SUITE, 2, "nccl", "NcclSum", "alone", timeout=100, env=env).check()
    assert result.stdout.count("passed") == 2


def test_nccl_refuses_two_ranks_on_one_gpu(run_ranks: Callable[..., Any]) -> None:
    require_nccl()
    result = run_ranks(SUITE, 2, "nccl", "NcclSum", timeout=100, env={"DISTRAIN_COMM": "nccl"})
    assert result.returncode == 1
    assert "ranks 0 and 1 are on the same GPU" in result.stderr


# MPI

ASK = """
from mpi4py import MPI
from distrain.comm import gpu_aware
print(gpu_aware.library_refusal() or "")
"""


@pytest.fixture
def refusal(mpi: Any) -> str:
    """Why the MPI here does not take memory of GPUs, as it says itself."""
    return str(mpi.run([sys.executable, "-c", ASK]).check().stdout.strip())


def probe(mpi: Any) -> str:
    script = f"from distrain.comm import gpu_aware; print(gpu_aware.probe({DEVICE}, 60.0) or '')"
    return str(mpi.run([sys.executable, "-c", script], timeout=90).check().stdout.strip())


def test_the_probe_tells_an_mpi_that_takes_memory_of_gpus_from_one_that_does_not(mpi: Any, refusal: str) -> None:
    found = probe(mpi)
    assert bool(found) == bool(refusal), (found, refusal)


def test_gpu_aware_mpi_sums_or_is_refused(run_ranks: Callable[..., Any], mpi: Any, refusal: str) -> None:
    reason = refusal or probe(mpi)
    result = run_ranks(SUITE, 2, "gpu-aware", "GpuAwareSum", timeout=100, env={"DISTRAIN_COMM": "gpu-aware"})
    if reason:
        assert result.returncode == 1
        assert "DeviceError: MPI cannot sum memory of GPUs on rank 0 (" in result.stderr
    else:
        assert result.check().stdout.count("passed") == 2


@pytest.mark.parametrize("kind", ["auto", "hierarchical"])
def test_two_ranks_on_one_gpu_go_the_way_that_is_left(
    run_ranks: Callable[..., Any], mpi: Any, refusal: str, kind: str
) -> None:
    way = "StagedSum" if refusal or probe(mpi) else "GpuAwareSum"
    result = run_ranks(SUITE, 2, kind, way, timeout=100, env={"DISTRAIN_COMM": kind}).check()
    assert result.stdout.count("passed") == 2
    assert "NCCL" not in result.stderr
