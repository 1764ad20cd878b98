"""What `distrain doctor --full` runs on two ranks: whether they reach each other, and what that takes.

    distrain run -n 2 checkup.py RECORD STARTED

Rank 0 writes what is found to the file RECORD as it goes, so that after a failure it is known how far they came: a line
a stage, `[stage, {…}]` in JSON. STARTED is when the launcher was started, in seconds since the epoch.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import distrain.functions as F
import distrain.links as L
from distrain import cuda
from distrain.comm import Communicator, world
from distrain.datasets import TupleDataset
from distrain.env import rank_info
from distrain.iterators import MultiprocessIterator, SerialIterator
from distrain.optimizers import SGD
from distrain.training import StandardUpdater, Trainer
from distrain.training.extensions import LogReport

_NBYTES = 8 * 2**20
_REPETITIONS = 5
_ROUND_TRIPS = 20
_SAMPLES = 8
_STEPS = 3


class _Record:
    """Where rank 0 notes what is found."""

    def __init__(self, path: str, comm: Communicator) -> None:
        self.path = path
        self.comm = comm

    def note(self, stage: str, **values: Any) -> None:
        if self.comm.rank == 0:
            with open(self.path, "a") as file:
                file.write(json.dumps([stage, values]) + "\n")


def main(path: str, started: float) -> None:
    """Looks at the job's world; a collective.

    Args:
        path: of the record.
        started: when the launcher was started, in seconds since the epoch.
    """
    comm = world()
    record = _Record(path, comm)
    ranks = comm.allgather_obj(_myself())
    record.note("world", size=comm.size, launcher=rank_info().launcher, has_watch=_has_watch(comm), ranks=ranks)
    record.note("allreduce", **_allreduce(comm, started))
    if comm.size > 1:
        record.note("clock", **_clock(comm))
        record.note("side channel", **_side_channel(comm))
    record.note("feeders", **_feeders(comm))
    comm.barrier()
    record.note("end")


def _myself() -> dict[str, Any]:
    usable = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else list(range(os.cpu_count() or 1))
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "device": _device(),
        "cores": usable,
        "nodes": _numa_nodes(usable),
        "threads": _threads(),
    }


def _numa_nodes(cores: Sequence[int]) -> list[int]:
    """Those that the processors belong to; none where the system does not tell."""
    found = [path.name for core in cores for path in Path(f"/sys/devices/system/cpu/cpu{core}").glob("node[0-9]*")]
    return sorted({int(name.removeprefix("node")) for name in found})


def _device() -> str:
    if not cuda.available:
        return "CPU"
    device = cuda.get_device_from_id(0)
    name = cuda.cupy.cuda.runtime.getDeviceProperties(0)["name"]
    return f"{name.decode()} ({device.pci_bus_id})"


def _threads() -> int:
    from threadpoolctl import threadpool_info

    return max((pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=1)


def _has_watch(comm: Communicator) -> bool:
    """Whether MPI lets several threads call it, as the watch over the ranks does."""
    if comm.size == 1:
        return True
    from mpi4py import MPI

    return bool(MPI.Query_thread() == MPI.THREAD_MULTIPLE)


def _allreduce(comm: Communicator, started: float) -> dict[str, Any]:
    """How long the first one came after the start, how fast the best of some is, and where the sum is wrong."""
    count = _NBYTES // 4
    mine = np.arange(count, dtype=np.float32) % 1000 + comm.rank  # whole numbers: the sum has no rounding
    expected = (np.arange(count, dtype=np.float32) % 1000) * comm.size + sum(range(comm.size))
    total = np.empty_like(mine)
    comm.allreduce(mine, out=total)
    after_start = time.time() - started
    is_right, best = bool((total == expected).all()), float("inf")
    for _ in range(_REPETITIONS):
        comm.barrier()
        start = time.perf_counter()
        comm.allreduce(mine, out=total)
        best = min(best, time.perf_counter() - start)
        is_right = is_right and bool((total == expected).all())
    everyone = comm.allgather_obj((is_right, best, after_start))
    return {
        "nbytes": _NBYTES,
        "seconds": max(seconds for _, seconds, _ in everyone),
        "after_start_s": max(seconds for _, _, seconds in everyone),
        "wrong": [rank for rank, (right, _, _) in enumerate(everyone) if not right],
    }


def _clock(comm: Communicator) -> dict[str, Any]:
    """The clock of rank 1 against that of rank 0, from the quickest of some round trips."""
    trips = []
    for _ in range(_ROUND_TRIPS):
        sent = time.time()
        if comm.rank == 0:
            comm.send_obj(None, 1)
            there = comm.recv_obj(1)
            back = time.time()
            trips.append((back - sent, there - (sent + back) / 2))
        elif comm.rank == 1:
            comm.recv_obj(0)
            comm.send_obj(time.time(), 0)
    round_trip, difference = comm.bcast_obj(min(trips, default=None))
    return {"difference_s": difference, "round_trip_s": round_trip}


def _side_channel(comm: Communicator) -> dict[str, Any]:
    """Whether heartbeats and sums for the log come from all ranks, in a training of some steps."""
    folder = str(comm.bcast_obj(tempfile.mkdtemp(prefix="distrain-") if comm.rank == 0 else ""))
    samples = np.ones((comm.size, 1), np.float32)
    model = L.Classifier(L.Linear(1, 1), lossfun=F.mean_squared_error)
    model.compute_accuracy = False
    optimizer = SGD().setup(model, comm)
    iterator = SerialIterator(TupleDataset(samples, samples), comm.size, comm=comm)
    trainer = Trainer(StandardUpdater(iterator, optimizer), (_STEPS, "iteration"), out=folder)
    trainer.extend(LogReport(trigger=(1, "iteration")))
    is_open: list[bool] = []
    trainer.extend(lambda trainer: is_open.append(trainer.side_channel.hub is not None), name="look")
    try:
        trainer.run()
        missing: set[int] = set()
        if comm.rank == 0:
            entries = json.loads(Path(folder, "log").read_text())
            missing.update(rank for entry in entries for rank in entry.get("missing_ranks", ()))
            missing.update(state.rank for state in trainer.rank_states if state.state != "done")
    finally:
        if comm.rank == 0:
            shutil.rmtree(folder, ignore_errors=True)
    return {"is_open": is_open[0], "missing": sorted(missing)}


def _feeders(comm: Communicator) -> dict[str, Any]:
    """How long the feeders take from nothing to a minibatch, and whether it is the right one."""
    samples = np.arange(_SAMPLES * comm.size, dtype=np.float32)
    batch_size = len(samples)
    start = time.perf_counter()
    iterator = MultiprocessIterator(samples, batch_size, repeat=False, shuffle=False, n_processes=1, comm=comm)
    read = np.asarray(list(next(iterator)))
    seconds = time.perf_counter() - start
    iterator.finalize()
    serial = SerialIterator(samples, batch_size, repeat=False, shuffle=False, comm=comm)
    everyone = comm.allgather_obj((bool((read == np.asarray(list(next(serial)))).all()), seconds))
    return {"seconds": [seconds for _, seconds in everyone], "is_right": all(right for right, _ in everyone)}


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
