"""Sums of arrays on GPUs by an MPI that takes their memory as it is.

An MPI that cannot do so reads the GPU's addresses as if they were the host's, and the process dies of it; one that says
that it can may still crash or hang with the drivers of a machine. So it is asked first, and then tried in a process of
its own (`gpu_probe.py`) on each node: what goes wrong there only means no.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from distrain import cuda
from distrain.backend import Array
from distrain.comm.gpu_probe import AGREED
from distrain.comm.gpu_sum import GpuSum
from distrain.comm.topology import position
from distrain.comm.watch import VARIABLE, timeout_s
from distrain.env import without_launcher
from distrain.errors import DeviceError

_LAST_WORDS = 400  # characters


def refusal(library: str, is_supported: bool | None, environ: Mapping[str, str] = os.environ) -> str | None:
    """Why an MPI does not take memory of GPUs; None if it says that it does. Pure.

    Args:
        library: what `MPI_Get_library_version` tells.
        is_supported: what `MPIX_Query_cuda_support` tells; None if the MPI has no such function.
        environ: the environment variables of this process.
    """
    name = library.split(",")[0].split("\n")[0].strip("\0 ")
    if "CRAY MPICH" in library.upper():
        if environ.get("MPICH_GPU_SUPPORT_ENABLED") == "1":
            return None
        return f"{name} takes memory of GPUs only with MPICH_GPU_SUPPORT_ENABLED=1"
    if "MPICH" in library and environ.get("MPIR_CVAR_ENABLE_GPU") == "0":
        return f"{name} was told not to, by MPIR_CVAR_ENABLE_GPU=0"
    if is_supported is None:
        return f"{name} does not say that it takes memory of GPUs (it has no MPIX_Query_cuda_support)"
    if not is_supported:
        how = " (`ompi_info` shows how)" if "Open MPI" in library else ""
        return f"{name} was built without CUDA{how}"
    return None


def library_refusal() -> str | None:
    """Why the MPI of this process, which has started, does not take memory of GPUs; None if it says that it does."""
    from mpi4py import MPI

    query = getattr(ctypes.CDLL(MPI.__file__), "MPIX_Query_cuda_support", None)
    return refusal(MPI.Get_library_version(), None if query is None else bool(query()))


def probe(device_id: int, limit_s: float) -> str | None:
    """What goes wrong where MPI sums memory of a GPU, in another process; None if nothing does.

    Args:
        device_id: of the GPU, as this process counts them.
        limit_s: seconds that it may take.
    """
    command = [sys.executable, "-c", "from distrain.comm import gpu_probe; gpu_probe.main()", str(device_id)]
    with tempfile.TemporaryFile() as output:  # no pipe: what MPI starts for that process might keep it open
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=without_launcher(os.environ),
            start_new_session=True,
        )
        code: int | None = None
        with contextlib.suppress(subprocess.TimeoutExpired):
            try:
                code = child.wait(limit_s)
            finally:
                if code is None:
                    os.killpg(child.pid, signal.SIGKILL)  # with what it has started
                    child.wait()
        output.seek(0)
        words = output.read().decode(errors="replace").strip()
    if code is None:
        return f"the probe of it has not come to its end after {limit_s:g} s ({VARIABLE})"
    if code == 0 and words.endswith(AGREED):
        return None
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"the probe of it {how}" + (f": {words[-_LAST_WORDS:]}" if words else "")


def obstacle(mpi_comm: Any, hosts: Sequence[str], flat: Array) -> DeviceError | None:
    """Why MPI cannot sum the memory of these ranks' GPUs; None if it can.

    A collective call, with the same answer everywhere. The first rank of each node makes the probe.

    Args:
        mpi_comm: of the ranks.
        hosts: for each rank the node that it is on.
        flat: an array on the GPU of this rank.
    """
    if found := _first_problem(mpi_comm, hosts, library_refusal()):
        return found
    makes_probe = position(mpi_comm.Get_rank(), hosts).intra_rank == 0
    mine = probe(flat.device.id, timeout_s(os.environ.get(VARIABLE))) if makes_probe else None
    return _first_problem(mpi_comm, hosts, mine)


def _first_problem(mpi_comm: Any, hosts: Sequence[str], mine: str | None) -> DeviceError | None:
    for rank, problem in enumerate(mpi_comm.allgather(mine)):
        if problem:
            return DeviceError(
                f"MPI cannot sum memory of GPUs on rank {rank} ({hosts[rank]}): {problem}. Use an MPI that was built "
                "for them, or set DISTRAIN_COMM=staged."
            )
    return None


class GpuAwareSum(GpuSum):
    """Gives MPI the memory of the GPU.

    Args:
        sum_array: sums an array over the ranks by MPI, in place, wherever it is.
    """

    def __init__(self, sum_array: Callable[[Array], None]) -> None:
        self._sum_array = sum_array

    def allreduce(self, flat: Array) -> None:
        """Replaces an array by its sum. Returns when it is there."""
        with flat.device:
            wide = flat.astype(np.float32) if flat.dtype.char == "e" else flat
            cuda.current_stream().synchronize()  # MPI knows nothing of streams
            self._sum_array(wide)
            if wide is not flat:
                flat[...] = wide  # rounded once

    def close(self) -> None:
        """Does nothing: it holds nothing."""
