"""Memory that the ranks of one node share.

One rank makes an anonymous file in memory, and the others open it through that rank's folder in /proc: there is no name
that a killed rank could leave behind. (Windows of MPI would do too, but those of Open MPI's wheel print errors.)
"""

from __future__ import annotations

import mmap
import os
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.errors import WorldError


def share(mpi_comm: Any, nbytes: int) -> NDArray[np.uint8]:
    """Memory of the ranks of a node. A collective call; it needs no giving back.

    Args:
        mpi_comm: an `mpi4py.MPI.Intracomm` of ranks that are all on one node.
        nbytes: for each rank.

    Returns:
        A row for each rank, the same memory on all of them, shape (ranks, nbytes).

    Raises:
        WorldError: the memory is not there, or cannot be shared; on all ranks of `mpi_comm` alike.
    """
    total = mpi_comm.Get_size() * nbytes
    file = -1
    problem = None
    try:
        if mpi_comm.Get_rank() == 0:
            file = _make(total)
        pid, number, identity = mpi_comm.bcast((os.getpid(), file, _identity(file)))
        if mpi_comm.Get_rank() != 0 and number >= 0:
            file = os.open(f"/proc/{pid}/fd/{number}", os.O_RDWR | os.O_CLOEXEC)
            if _identity(file) != identity:
                problem = f"process {pid} there is another one: do the ranks of this node see each other's processes?"
    except OSError as error:
        problem = str(error)
        if mpi_comm.Get_rank() == 0:
            mpi_comm.bcast((os.getpid(), -1, None))
    memory = mmap.mmap(file, total) if file >= 0 and problem is None else None
    problems = mpi_comm.allgather(problem)  # not before it may the first rank close the file
    if file >= 0:
        os.close(file)
    if memory is None or any(problems):
        found = "; ".join(f"rank {rank} of the node: {text}" for rank, text in enumerate(problems) if text)
        raise WorldError(
            f"{total} bytes of memory cannot be shared among the ranks of a node. {found}. Use DISTRAIN_COMM=mpi."
        )
    return np.frombuffer(memory, np.uint8).reshape(-1, nbytes)


def _identity(file: int) -> tuple[int, int] | None:
    if file < 0:
        return None
    found = os.fstat(file)
    return found.st_dev, found.st_ino


def _make(nbytes: int) -> int:
    if sys.platform != "linux":
        raise OSError("this system has no anonymous files")
    file = os.memfd_create("distrain sums", os.MFD_CLOEXEC)
    try:
        os.posix_fallocate(file, 0, nbytes)  # an error here, and not a SIGBUS later
    except OSError:
        os.close(file)
        raise
    return file
