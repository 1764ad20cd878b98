"""How large a minibatch should be: the time and the memory of a few steps with larger and larger ones."""

from __future__ import annotations

import gc
import math
import resource
import socket
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from distrain import comm as comm_module
from distrain import cuda
from distrain.clock import clock
from distrain.comm import Communicator
from distrain.errors import ArgumentError
from distrain.iterators import SerialIterator
from distrain.memory import memory, resident
from distrain.reporting import Reporter
from distrain.training.as_before import as_before
from distrain.training.updater import Updater
from distrain.training.updaters.standard import StandardUpdater

Reason: TypeAlias = Literal["memory", "time", "dataset", "limit"]
_USABLE = 0.9  # of the memory that is available


class _Trial(NamedTuple):
    """What a rank has seen of one size; `seconds` is None if the memory was not enough."""

    seconds: float | None
    peak: int
    wanted: int  # bytes beyond those of now, for twice as many samples
    available: int | None
    host: str


@dataclass
class BatchSizes:
    """What `find_batch_size` has seen.

    Attributes:
        sizes: samples of a minibatch of the job, each twice the one before.
        seconds: that a sample took: the fastest step of the slowest rank, without reading data, divided by the size.
        nbytes: of memory of the rank that needed most of it: its own, or with a GPU that of CuPy's pool.
        tolerance: as given.
        reason: why there are no larger sizes: "memory", "time" (a sample would take as long), "dataset" (it has no more
            samples) or "limit" (`most`).
    """

    sizes: list[int]
    seconds: list[float]
    nbytes: list[int]
    tolerance: float
    reason: Reason | None = None

    def add(self, size: int, trials: list[_Trial]) -> None:
        """Takes what the ranks have seen of a size."""
        self.sizes.append(size)
        self.seconds.append(max(trial.seconds or 0.0 for trial in trials) / size)
        self.nbytes.append(max(trial.peak for trial in trials))

    @property
    def suggestion(self) -> int:
        """The smallest size at which a sample takes hardly longer than at the best: no more than `tolerance`."""
        enough = min(self.seconds) * (1 + self.tolerance)
        return next(size for size, seconds in zip(self.sizes, self.seconds, strict=True) if seconds <= enough)


def find_batch_size(
    updater: Updater, start: int = 16, most: int | None = None, steps: int = 3, tolerance: float = 0.05
) -> BatchSizes:
    """Trains some steps with larger and larger minibatches, and then puts everything back as it was.

        found = training.find_batch_size(updater)
        updater = training.StandardUpdater(SerialIterator(train, found.suggestion), optimizer)

    The size is doubled until the next one would not fit into the memory that is left for the ranks of a machine (of a
    GPU: until one has not fitted), until a sample takes no less time than before, or until the dataset is used up.
    Model, optimizer and iterators are then as before. A collective call on several ranks, which all return the same;
    there each rank first tries forward and backward pass by itself, so that one without memory leaves no other waiting.

    A larger minibatch usually wants a larger learning rate, and gives fewer updates an epoch; see `find_learning_rate`.

    Args:
        updater: what would be given to a Trainer; its samples come from the dataset of its iterator "main".
        start: the first size, samples of the job; one for each rank at least.
        most: no larger size is tried.
        steps: that are timed at each size; the fastest one counts, and one more comes first.
        tolerance: by which share less time makes a larger minibatch worth it.

    Raises:
        ArgumentError: impossible arguments, an updater without iterators, or not even the first size fits.
    """
    if start < 1 or steps < 1 or not 0 <= tolerance < 1 or (most is not None and most < start):
        raise ArgumentError(
            f"find_batch_size needs 1 <= start <= most, one step and 0 <= tolerance < 1, not start={start}, "
            f"most={most}, steps={steps}, tolerance={tolerance}"
        )
    comm = getattr(updater, "comm", None) or comm_module.world()
    iterators = getattr(updater, "_iterators", {})
    dataset = getattr(iterators.get("main"), "dataset", None)
    if dataset is None:
        raise ArgumentError(f"find_batch_size needs an updater with iterators over datasets, not {updater!r}")
    search = _Search(updater, dataset, comm, steps)
    found = BatchSizes([], [], [], tolerance)
    size = min(max(start, comm.size), search.samples)
    with as_before(updater), search:
        while found.reason is None:
            trials = search.tried(size)
            if any(trial.seconds is None for trial in trials):
                found.reason = "memory"
            else:
                found.add(size, trials)
                found.reason = _reason_to_end(trials, found, search.samples, most)
                size *= 2
    if not found.sizes:
        raise ArgumentError(
            f"not even a minibatch of {size} samples fits into the memory: give find_batch_size a smaller start, or "
            "train on more ranks"
        )
    return found


def _reason_to_end(trials: list[_Trial], found: BatchSizes, samples: int, most: int | None) -> Reason | None:
    """The same on all ranks, as it follows from what all of them have seen."""
    if not _next_fits(trials):
        return "memory"
    seconds = found.seconds
    if len(seconds) > 2 and min(seconds[-2:]) > seconds[-3] * (1 - found.tolerance):  # one alone may be bad luck
        return "time"
    if 2 * found.sizes[-1] > samples:
        return "dataset"
    return "limit" if most is not None and 2 * found.sizes[-1] > most else None


def _next_fits(trials: list[_Trial]) -> bool:
    """Whether the ranks of each machine have the memory for twice as many samples."""
    wanted: Counter[str] = Counter()
    for trial in trials:
        wanted[trial.host] += trial.wanted
    return all(trial.available is None or wanted[trial.host] <= _USABLE * trial.available for trial in trials)


class _Search:
    """Steps of an updater with minibatches of other sizes; a `with` block, after which it has its iterator again."""

    def __init__(self, updater: Any, dataset: Any, comm: Communicator, steps: int) -> None:
        self._updater = updater
        self._iterators: dict[str, Any] = updater._iterators
        self._given = self._iterators["main"]
        self._dataset = dataset
        self._comm = comm
        self._steps = steps
        self._last_peak: int | None = None
        is_scattered = getattr(dataset, "is_scattered", False)
        self.samples = sum(comm.allgather_obj(len(dataset))) if is_scattered else len(dataset)

    def __enter__(self) -> None:
        self._reporter = Reporter()  # models report to whoever is there
        for name, one in self._updater.get_all_optimizers().items():
            self._reporter.add_observer(name, one.target)
            self._reporter.add_observers(name, one.target.namedlinks(skipself=True))

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._iterators["main"] = self._given

    @property
    def _xp(self) -> Any:
        """NumPy, or CuPy for a model on a GPU; parameters without a size do not tell yet."""
        params = self._updater.get_optimizer("main").target.params()
        return cuda.get_array_module(*[param.array for param in params if param.array is not None])

    def tried(self, size: int) -> list[_Trial]:
        """What each rank has seen of minibatches of that many samples; a collective call."""
        _forget_peak()
        before = resident() or 0
        fits = True
        if self._comm.size > 1:
            fits = all(self._comm.allgather_obj(self._alone(math.ceil(size / self._comm.size))))
        seconds = self._timed(size) if fits else None
        if seconds is None:
            gc.collect()  # what the exception has kept
            self._free_blocks()
        there = memory()
        available = None if there is None else there.available
        peak = _peak()
        # Peaks grow with the number of samples, whatever freed memory the process holds on to between them.
        growth = peak - before if self._last_peak is None else 2 * (peak - self._last_peak)
        self._last_peak = peak
        wanted = max(0, peak + growth - (resident() or 0))
        shown = peak if self._xp is np else int(self._xp.get_default_memory_pool().total_bytes())
        return self._comm.allgather_obj(_Trial(seconds, shown, wanted, available, socket.gethostname()))

    def _alone(self, size: int) -> bool:
        """Whether this rank has the memory for a forward and backward pass of so many samples."""
        updater = self._updater
        if type(updater).update_core is not StandardUpdater.update_core:
            return True  # who knows what it does with its minibatches
        iterator = SerialIterator(self._dataset, size, shuffle=False, comm=comm_module.local())
        optimizer = updater.get_optimizer("main")
        try:
            arrays = updater.converter(next(iterator), updater.input_device)
            with self._reporter, self._reporter.scope({}):
                lossfun = updater.loss_func or optimizer.target
                loss = _called(lossfun, arrays)
                optimizer.target.cleargrads()
                loss.backward()
            self._wait()
        except MemoryError:
            return False
        return True

    def _timed(self, size: int) -> float | None:
        """Seconds of the fastest step, without reading the data; None if the memory does not suffice."""
        self._iterators["main"] = SerialIterator(self._dataset, size, shuffle=False, comm=self._comm)
        best = math.inf
        try:
            for step in range(1 + self._steps):
                start, data = time.perf_counter(), clock.seconds["data"]
                with self._reporter, self._reporter.scope({}):
                    self._updater.update()
                self._wait()
                if step:
                    best = min(best, time.perf_counter() - start - (clock.seconds["data"] - data))
        except MemoryError:
            if self._comm.size > 1:  # the others wait for this rank: it cannot go on
                raise
            return None
        return best

    def _wait(self) -> None:
        """Waits for the GPU, which works on while Python goes ahead."""
        if self._xp is not np:
            self._xp.cuda.Device().synchronize()

    def _free_blocks(self) -> None:
        if self._xp is not np:
            self._xp.get_default_memory_pool().free_all_blocks()


def _called(lossfun: Any, arrays: Any) -> Any:
    if isinstance(arrays, tuple):
        return lossfun(*arrays)
    return lossfun(**arrays) if isinstance(arrays, dict) else lossfun(arrays)


def _forget_peak() -> None:
    """Lets `_peak` begin anew, where the system allows it."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """The most bytes of memory in which this process has resided since then."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
