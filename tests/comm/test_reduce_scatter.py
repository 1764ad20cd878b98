from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from distrain.comm.reduce_scatter import clip

SCRIPT = """
import numpy as np
from distrain import comm
from distrain.comm import reduce_scatter as module
from distrain.comm.channel import even_bounds

world = comm.world()
channel, rank, n = world.channel, world.rank, world.size

def uneven(count):
    return [(0, 0)] * (n - 1) + [(2, count - 1)]  # the last one has all but the ends

def check(count, dtype, bounds):
    arrays = [np.random.default_rng([count, r]).normal(size=count).astype(dtype) for r in range(n)]
    total = arrays[0].astype(np.float32) if dtype == "f2" else arrays[0].copy()
    for array in arrays[1:]:
        total += array  # in the order of the ranks
    total = total.astype(dtype)
    mine, before = arrays[rank], arrays[rank].copy()
    out = np.full(bounds[rank][1] - bounds[rank][0], np.nan, dtype)
    module.reduce_scatter(channel, rank, mine, bounds, out)
    np.testing.assert_array_equal(out, total[slice(*bounds[rank])])
    np.testing.assert_array_equal(mine, before)
    here = mine[slice(*bounds[rank])]
    module.reduce_scatter(channel, rank, mine, bounds, here)
    np.testing.assert_array_equal(here, out)
    whole = np.full(count, -1, dtype)
    whole[slice(*bounds[rank])] = out
    module.allgather(channel, whole, bounds)
    for start, stop in bounds:
        np.testing.assert_array_equal(whole[start:stop], total[start:stop])

for window, longest in ((2**18, 2**30), (n * 2, 2**30), (n * 5, 7), (1, 3)):
    module._WINDOW, channel.max_count = window, longest
    for dtype in ("f2", "f4", "f8"):
        for count in (0, 1, 5, 40):
            check(count, dtype, even_bounds(count, n))
        check(40, dtype, uneven(40))
print("passed")
"""


@pytest.mark.mpi
@pytest.mark.parametrize("n", [1, 2, 3, 4])
def test_the_bits_depend_on_the_terms_alone(run_ranks: Callable[..., Any], n: int, mpi_python: str) -> None:
    assert run_ranks(SCRIPT, n, python=mpi_python).check().stdout.count("passed") == n


def test_parts_of_a_slice_count_from_its_start() -> None:
    assert clip([(0, 4), (4, 9), (9, 12)], 3, 9) == [(0, 1), (1, 6), (0, 0)]
