from __future__ import annotations

import numpy as np
import pytest

import distrain.links as L
from distrain import comm
from distrain.training import persistents


class Statistics(L.Link):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.add_persistent("mean", np.full(3, value, np.float32))
        self.add_persistent("half", np.full(2, value, np.float16))
        self.add_persistent("count", np.array(int(value)))
        self.add_persistent("number", value)


def test_only_floating_arrays_count():
    found = persistents.floating_persistents(L.Chain(a=Statistics(1), b=Statistics(2)))
    assert [(array.dtype.name, float(array[0])) for array in found] == [
        ("float32", 1), ("float16", 1), ("float32", 2), ("float16", 2),
    ]  # fmt: skip


def test_average_over_copies_is_weighted_and_in_place():
    links = [Statistics(1), Statistics(5)]
    array = links[0].mean
    persistents.average_over_copies(links[0], links, [0.75, 0.25])
    assert links[0].mean is array
    assert (array.tolist(), links[0].half.dtype, int(links[0].count)) == ([2, 2, 2], np.float16, 1)


def test_average_over_one_rank_changes_nothing():
    link = Statistics(3)
    persistents.average_over_ranks(link, comm.local())
    assert link.mean.tolist() == [3, 3, 3]


@pytest.mark.mpi
def test_average_over_ranks(run_ranks):
    script = """
import numpy as np
import distrain.links as L
from distrain import comm
from distrain.training import persistents

world = comm.world()
link = L.BatchNormalization(4)
link.avg_mean[...] = world.rank
persistents.average_over_ranks(link, world)
np.testing.assert_array_equal(link.avg_mean, np.full(4, 1.0))
assert link.avg_mean.dtype == np.float32
"""
    run_ranks(script, 3).check()
