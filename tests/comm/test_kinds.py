from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from distrain.comm.kinds import chosen_kind
from distrain.errors import ArgumentError


def test_the_variable() -> None:
    assert chosen_kind({}) == chosen_kind({"DISTRAIN_COMM": ""}) == "auto"
    assert chosen_kind({"DISTRAIN_COMM": "hierarchical"}) == "hierarchical"
    with pytest.raises(
        ArgumentError, match="'ring'; DISTRAIN_COMM may be auto, mpi, hierarchical, staged, nccl, gpu-aware"
    ):
        chosen_kind({"DISTRAIN_COMM": "ring"})


@pytest.mark.mpi
def test_ranks_of_different_kinds_are_refused(run_ranks: Callable[..., Any]) -> None:
    script = """
    import os
    from distrain import comm
    from distrain.env import rank_info
    if rank_info().rank == 1:
        os.environ["DISTRAIN_COMM"] = "hierarchical"
    comm.world()
    """
    result = run_ranks(script, 2)
    assert result.returncode == 1
    assert "is to use the communicator 'hierarchical', but rank 0 'auto'" in result.stderr


@pytest.mark.mpi
def test_memory_that_cannot_be_shared_is_refused_on_all_ranks(run_ranks: Callable[..., Any]) -> None:
    script = """
    import resource
    from distrain import comm, multi_node
    from distrain.errors import WorldError
    comm.world()
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))  # holds for files in memory too
    try:
        multi_node.create_communicator("hierarchical")
    except WorldError as error:
        assert "1048576 bytes of memory cannot be shared" in str(error), error
        assert "rank 0 of the node: [Errno 27]" in str(error), error
        print("refused", flush=True)
    """
    result = run_ranks(script, 2)
    assert result.stdout.count("refused") == 2, result.stderr


HOSTS = """
import ctypes, socket
from distrain.env import rank_info
assert ctypes.CDLL(None).unshare(0x04000000) == 0  # CLONE_NEWUTS: a host name of its own
socket.sethostname(f"node{rank_info().rank // 2}")
import numpy as np
from distrain import comm
world = comm.world()
assert (world.inter_size, world.inter_rank, world.intra_rank) == (2, world.rank // 2, world.rank % 2)
for dtype in "efdiq":
    for size in (3, 2**15, 2**18 + 7):
        x = np.full(size, world.rank + 1, dtype)
        world.channel.allreduce(x)
        assert (x == world.size * (world.size + 1) // 2).all()
print("passed", flush=True)
"""


def _may_have_a_host_name() -> bool:
    call = "import ctypes, sys; sys.exit(ctypes.CDLL(None).unshare(0x04000000) != 0)"
    return subprocess.run([sys.executable, "-c", call], timeout=30).returncode == 0


@pytest.mark.mpi
@pytest.mark.skipif(not _may_have_a_host_name(), reason="host names of processes need the rights of root")
@pytest.mark.parametrize(("kind", "n"), [("hierarchical", 3), ("hierarchical", 4), ("auto", 4)])
def test_ranks_with_different_host_names(run_ranks: Callable[..., Any], kind: str, n: int) -> None:
    assert run_ranks(HOSTS, n, env={"DISTRAIN_COMM": kind}).check().stdout.count("passed") == n
