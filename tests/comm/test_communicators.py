from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SUITE = Path(__file__).with_name("suite.py")


@pytest.mark.mpi
@pytest.mark.parametrize(
    ("kind", "n"),
    [*[(kind, n) for kind in ("auto", "hierarchical") for n in (1, 2, 3, 4)], ("mpi", 2), ("mpi", 3), ("staged", 2)],
)
def test_every_communicator_passes_the_suite(run_ranks: Callable[..., Any], kind: str, n: int, mpi_python: str) -> None:
    result = run_ranks(SUITE, n, str(n), kind, python=mpi_python, env={"DISTRAIN_COMM": kind}).check()
    assert result.stdout.count("passed") == n
    assert result.stderr == ""


HUGE = """
import numpy as np
from distrain import comm

world = comm.world()
x = np.full(2**31 + 5, world.rank + 1, np.int8)  # more bytes than MPI before 4.0 can count
world.channel.allreduce(x)
assert x.min() == x.max() == 3
x[...] = world.rank
world.bcast(x, 1, out=x)
assert x.min() == x.max() == 1
print("passed", flush=True)
"""

MORE = """
if world.rank == 0:
    x[-1] = 7
    world.send(x, 1)
else:
    got = world.recv(0)
    assert (len(got), got[0], got[-1]) == (len(x), 1, 7)
    del got
x = x[: 2**30 + 3]  # the parts of all ranks are more than that
x[-1] = world.rank
for rank, part in enumerate(world.allgather(x)):
    assert (len(part), part[0], part[-1]) == (len(x), 1, rank)
print("passed", flush=True)
"""


OBJECTS = """
import numpy as np
from distrain import comm

world = comm.world()
x = np.full(2**30 + 5, 1, np.int8) if world.rank == 0 else np.ones(3, np.int8)  # more than one call takes
first, second = world.allgather_obj({"x": x})
assert (len(first["x"]), len(second["x"]), first["x"][-1]) == (2**30 + 5, 3, 1)
print("passed", flush=True)
"""


def _free_memory() -> int:
    words = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(words["MemAvailable"].split()[0]) * 1024


NEEDS_MEMORY = pytest.mark.skipif(_free_memory() < 12 * 2**30, reason="needs 12 GiB of free memory")


@pytest.mark.mpi
@pytest.mark.slow
@NEEDS_MEMORY
def test_more_than_two_gibibytes(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    result = run_ranks(HUGE, 2, python=mpi_python, timeout=110).check()
    assert result.stdout.count("passed") == 2


@pytest.mark.mpi
@pytest.mark.slow
@pytest.mark.skipif(_free_memory() < 8 * 2**30, reason="needs 8 GiB of free memory")
def test_an_object_of_more_bytes_than_one_call_takes(run_ranks: Callable[..., Any], mpi_python: str) -> None:
    assert run_ranks(OBJECTS, 2, python=mpi_python, timeout=110).check().stdout.count("passed") == 2


@pytest.mark.mpi
@pytest.mark.slow
@NEEDS_MEMORY
def test_more_than_two_gibibytes_through_shared_memory_and_in_other_calls(run_ranks: Callable[..., Any]) -> None:
    result = run_ranks(HUGE + MORE, 2, timeout=110, env={"DISTRAIN_COMM": "hierarchical"}).check()
    assert result.stdout.count("passed") == 4
