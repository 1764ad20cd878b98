"""The slots come back at once, whatever a minibatch is made of; the garbage collector is not needed for it."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from distrain.iterators import MultiprocessIterator

RAGGED = [np.full(1 + i % 3, i, np.float32) for i in range(12)]


@pytest.fixture(autouse=True)
def _no_collector() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


def padded(batch: list[Any], device: Any) -> Any:
    return np.stack([np.resize(one, 3) for one in batch])


@pytest.mark.parametrize("converter", [None, padded], ids=["examples", "converter"])
def test_slots_of_minibatches_that_are_no_columns(converter: Any) -> None:
    iterator = MultiprocessIterator(RAGGED, 4, n_processes=1, converter=converter, dataset_timeout=10)
    try:
        for _ in range(50):  # many more than there are slots
            batch = next(iterator)
            assert len(batch) == 4
            del batch
    finally:
        iterator.finalize()


def test_answers_that_come_after_a_reset_are_no_fault_of_the_feeder() -> None:
    iterator = MultiprocessIterator(RAGGED, 4, n_processes=2, n_prefetch=4, dataset_timeout=10)
    try:
        first = [one.tolist() for one in next(iterator)]
        for _ in range(20):
            next(iterator)
            iterator.reset()
            assert [one.tolist() for one in next(iterator)] == first
            iterator.reset()
        stats = iterator.stats()
        assert (stats["refused"], stats["respawns"]) == (0, 0), stats
    finally:
        iterator.finalize()
