from __future__ import annotations

import gc
from typing import Any

import numpy as np

from distrain.iterators import MultiprocessIterator


class Ragged:
    """Examples that are no rows of columns; their arrays are views of the slot."""

    def __len__(self) -> int:
        return 100

    def __getitem__(self, i: int) -> Any:
        return np.arange(i % 7, dtype=np.int16), i


def test_slots_come_back_without_the_help_of_the_garbage_collector() -> None:
    iterator = MultiprocessIterator(Ragged(), 20, shuffle=False, n_processes=1, dataset_timeout=30)  # then an error
    gc.disable()
    try:
        for k in range(25):
            assert [i for _, i in next(iterator)] == [i % 100 for i in range(20 * k, 20 * k + 20)]
    finally:
        gc.enable()
        iterator.finalize()
