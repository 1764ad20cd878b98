"""Minibatches on their way to a GPU; `make gpu-check` runs it."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
from distrain import cuda
from distrain.dataset import concat_examples
from distrain.iterators import MultiprocessIterator, SerialIterator
from tests.gpu.test_gpu import DEVICE, why_not

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not cuda.available, reason=why_not()),
    pytest.mark.filterwarnings("ignore:CUDA path could not be detected"),
]


class Images:
    def __len__(self) -> int:
        return 301

    def __getitem__(self, i: int) -> tuple[np.ndarray, int]:
        return distrain.rng.sample_rng().random((3, 32, 32), np.float32), i


@pytest.mark.parametrize("n_prefetch", [1, 4])
def test_the_same_numbers_as_on_the_host(n_prefetch: int) -> None:
    distrain.get_device(DEVICE).use()
    serial = SerialIterator(Images(), 32, seed=1)
    with MultiprocessIterator(Images(), 32, n_processes=2, n_prefetch=n_prefetch, seed=1, device=DEVICE) as iterator:
        for _ in range(60):
            x, t = concat_examples(next(iterator), DEVICE)
            assert cuda.is_gpu_array(x)
            wanted_x, wanted_t = concat_examples(next(serial))
            busy = cuda.cupy.ones((1500, 1500), np.float32)
            for _ in range(5):  # the next copy goes on beside this
                busy = busy @ busy / 1500
            np.testing.assert_array_equal(cuda.to_cpu(x), wanted_x)
            np.testing.assert_array_equal(cuda.to_cpu(t), wanted_t)


def test_copies_that_are_kept_stay_as_they_are() -> None:
    with MultiprocessIterator(Images(), 32, n_processes=2, seed=1, device=DEVICE) as iterator:
        kept = [concat_examples(next(iterator), DEVICE) for _ in range(30)]
    serial = SerialIterator(Images(), 32, seed=1)
    for x, t in kept:
        wanted_x, wanted_t = concat_examples(next(serial))
        np.testing.assert_array_equal(cuda.to_cpu(x), wanted_x)
        np.testing.assert_array_equal(cuda.to_cpu(t), wanted_t)


def test_pages_are_pinned_once_and_let_go() -> None:
    runtime = cuda.require_cupy().cuda.runtime
    iterator = MultiprocessIterator(Images(), 32, n_processes=2, seed=1, device=DEVICE)
    for _ in range(10):
        next(iterator)
    feed = iterator._feed
    assert feed is not None
    slot = feed._arena.slots[0]
    with pytest.raises(runtime.CUDARuntimeError, match="already"):
        runtime.hostRegister(slot.address, slot.nbytes, 0)
    iterator.finalize()
