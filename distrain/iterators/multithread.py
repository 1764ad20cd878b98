"""The iterator whose samples are read by threads of this process."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, Literal, NamedTuple

from distrain.comm import Communicator
from distrain.dataset.batch import Batch
from distrain.iterators.arguments import count
from distrain.iterators.plan import Planned
from distrain.iterators.planned import PlannedIterator
from distrain.iterators.reading import LegacyState, OnError, Reader, Run

_DOUBTS = 3


class MultithreadIterator(PlannedIterator):
    """Minibatches that threads of this process read, one minibatch ahead of the training.

        train_iter = MultithreadIterator(train, 128, n_threads=8)

    For datasets that mostly wait, for a disk or a server, or whose work is done by code that lets other threads run.
    The minibatches are those of `SerialIterator`, byte for byte. The dataset must stand being read by several threads.

    `np.random` and `random` have one state for all threads. A dataset that draws from them is therefore read by one
    thread after all, and never ahead; use `distrain.rng.sample_rng()`, which has no such limit.

    Args:
        dataset: as for `SerialIterator`.
        batch_size: samples of a minibatch of the job.
        repeat: whether epochs follow each other without end.
        shuffle: whether the order is random; None means yes, unless an `order_sampler` is given.
        n_threads: how many threads read.
        order_sampler: makes the order of each epoch, see `OrderSampler`.
        comm: the communicator whose ranks share a minibatch; None is the job's world.
        batch: what `batch_size` counts, "global" or "per-rank".
        seed: of the order and of the samples' random numbers; None is the job's.
        on_error: "raise", or "skip" to replace samples that cannot be read, see `PlannedIterator`.

    Raises:
        ArgumentError: an argument that cannot work.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        repeat: bool = True,
        shuffle: bool | None = None,
        n_threads: int = 1,
        order_sampler: Callable[..., Any] | None = None,
        *,
        comm: Communicator | None = None,
        batch: Literal["global", "per-rank"] = "global",
        seed: int | None = None,
        on_error: OnError = "raise",
    ) -> None:
        super().__init__(
            dataset, batch_size, repeat, shuffle, order_sampler, comm=comm, batch=batch, seed=seed, on_error=on_error
        )
        self.n_threads = count("n_threads", n_threads, 1)
        self._unplug()

    def _unplug(self) -> None:
        self._threads: _Threads | None = None
        self._ahead: _Ahead | None = None
        self._is_known = False  # whether a first minibatch has shown how the dataset draws
        self._doubts = 0  # minibatches read ahead while somebody drew from the legacy generators

    def _read(self, planned: Planned) -> Batch:
        batch = self._collated(planned)
        if batch is not None:
            return batch
        if not self._is_known or self._reader_here().draws:
            examples = self._examples(planned)
            self._is_known = True
        else:
            examples = self._from_ahead(planned)
        self._look_ahead(planned)
        return self._batch_of(planned, examples)

    def _from_ahead(self, planned: Planned) -> list[Any]:
        ahead, self._ahead = self._ahead, None
        if ahead is not None and ahead.planned.cursor == planned.cursor and ahead.seed == self._seed:
            outcome = ahead.work.outcome()
            if ahead.state.holds:
                return self._accepted(outcome)
            self._doubts += 1  # the dataset drew, or the training did: read it again, while nobody else works
        elif ahead is not None:
            ahead.work.outcome()
        state = LegacyState()
        outcome = self._hand_out(planned).outcome()
        if state.holds:
            return self._accepted(outcome)
        state.restore()
        self._reader_here().draws = True
        return self._examples(planned)

    def _accepted(self, outcome: _Outcome) -> list[Any]:
        if outcome.error is not None:
            raise outcome.error
        if outcome.skipped:
            self._note_skipped(outcome.skipped)
        return outcome.examples

    def _look_ahead(self, planned: Planned) -> None:
        """Has the next minibatch read, unless the training draws from the legacy generators, too."""
        if self._reader_here().draws or self._doubts >= _DOUBTS:
            return
        following = self._plan(planned.step.epoch, planned.step.position, planned.orders_after)
        if following is not None:
            self._ahead = _Ahead(following, self._known_seed(), LegacyState(), self._hand_out(following))

    def _hand_out(self, planned: Planned) -> _Work:
        threads = self._threads
        if threads is None or threads.pid != os.getpid():
            threads = self._threads = _Threads(self.n_threads)
            weakref.finalize(self, threads.close)
        seed, on_error = self._known_seed(), self._on_error
        readers, futures = [], []
        for runs in _parts(planned.runs, self.n_threads):
            readers.append(Reader(self.dataset, seed, on_error))
            futures.append(threads.submit(readers[-1].unseated, runs))
        return _Work(readers, futures)

    def reset(self) -> None:
        """Back to the start of epoch 0, and to its order. What was read ahead is thrown away."""
        super().reset()
        self._ahead = None

    def finalize(self) -> None:
        """Ends the threads, once they are done with their samples. The iterator may be used again."""
        self._ahead = None
        if self._threads is not None:
            self._threads.close()
            self._threads = None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_threads", "_ahead", "_reader")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reader = None
        self._unplug()


class _Outcome(NamedTuple):
    examples: list[Any]
    skipped: list[Any]
    error: BaseException | None


class _Work:
    """A minibatch that threads are reading."""

    def __init__(self, readers: Sequence[Reader], futures: Sequence[Future[list[Any]]]) -> None:
        self._readers = readers
        self._futures = futures

    def outcome(self) -> _Outcome:
        """What came of it, once all threads are done; the error is that of the first sample that has one."""
        errors = [future.exception() for future in self._futures]
        error = next((error for error in errors if error is not None), None)
        examples = [] if error else [example for future in self._futures for example in future.result()]
        return _Outcome(examples, [one for reader in self._readers for one in reader.skipped], error)


class _Ahead(NamedTuple):
    """A minibatch that is read ahead, and where the legacy generators stood at its start."""

    planned: Planned
    seed: int
    state: LegacyState
    work: _Work


class _Threads:
    """Threads that do not keep the program from ending, as those of concurrent.futures would while a sample hangs."""

    def __init__(self, number: int) -> None:
        self.pid = os.getpid()
        self._jobs: SimpleQueue[Any] = SimpleQueue()
        self._number = number
        for _ in range(number):
            threading.Thread(target=_serve, args=(self._jobs,), name="distrain-reader", daemon=True).start()

    def submit(self, function: Callable[[Any], list[Any]], argument: Any) -> Future[list[Any]]:
        """Has a thread call a function."""
        future: Future[list[Any]] = Future()
        self._jobs.put((future, function, argument))
        return future

    def close(self) -> None:
        """Ends the threads after what was submitted before."""
        for _ in range(self._number):
            self._jobs.put(None)


def _serve(jobs: SimpleQueue[Any]) -> None:
    while (job := jobs.get()) is not None:
        future, function, argument = job
        try:
            future.set_result(function(argument))
        except BaseException as error:  # whoever waits for it gets it, whatever it is
            future.set_exception(error)
        del job, future, function, argument  # what the caller drops is not to live on in this frame


def _parts(runs: Sequence[Run], number: int) -> list[list[Run]]:
    """Samples in up to so many parts of equal size, in order."""
    samples = [(epoch, index) for epoch, indices in runs for index in indices]
    size = -(-len(samples) // number)
    return [[(epoch, [index]) for epoch, index in samples[at : at + size]] for at in range(0, len(samples), size)]
