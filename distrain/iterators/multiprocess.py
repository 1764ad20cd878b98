"""The iterator whose samples are read by other processes, ahead of the training."""

from __future__ import annotations

import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from distrain.backend import GpuDevice, get_device
from distrain.comm import Communicator, world
from distrain.comm import cores as rank_cores
from distrain.dataset.batch import Batch
from distrain.errors import FeedError
from distrain.iterators import order
from distrain.iterators.arguments import count, seconds
from distrain.iterators.plan import Planned
from distrain.iterators.planned import PlannedIterator
from distrain.iterators.reading import OnError
from distrain.iterators.staging import Stage
from distrain.reporting import report

if TYPE_CHECKING:
    from distrain.iterators.feed.feed import Feed
    from distrain.iterators.feed.window import Job


class TimeoutWarning(RuntimeWarning):
    """A minibatch takes longer than `dataset_timeout`, or a sample much longer than others.

    `warnings.simplefilter("error", TimeoutWarning)` makes it an error.
    """


class _Staged(NamedTuple):
    """A minibatch that has been read.

    Attributes:
        planned: which.
        columns: arrays, on the device if there is an event.
        examples: instead of columns.
        event: after which the columns are there.
    """

    planned: Planned
    columns: Any
    examples: list[Any] | None
    event: Any


class MultiprocessIterator(PlannedIterator):
    """Minibatches that other processes read, ahead of the training.

        train_iter = MultiprocessIterator(train, 128, n_processes=8)

    The minibatches are those of `SerialIterator`, byte for byte, with any number of processes. They are arrays in
    shared memory, handed over without a copy; the memory is used again once the batch and its arrays are gone. A
    process that dies or hangs is replaced, and its work done again.

    The processes get the dataset as it is when the iterator is made. Classes and functions of the script, and lambdas,
    travel with it, and big arrays inside it are shared, not copied. The dataset is read in the processes only; leave
    files and connections to be opened there, in `__getitem__`.

    Args:
        dataset: as for `SerialIterator`.
        batch_size: samples of a minibatch of the job.
        repeat: whether epochs follow each other without end.
        shuffle: whether the order is random; None means yes, unless an `order_sampler` is given.
        n_processes: how many processes read; None: as many as the rank has cores.
        n_prefetch: how many minibatches are read ahead, at least; where a minibatch is too little work for all
            processes, more are.
        shared_mem: bytes of shared memory a sample; None measures the first sample. What does not fit is sent through
            sockets, which is slower, and counted.
        order_sampler: makes the order of each epoch, see `OrderSampler`.
        dataset_timeout: seconds after which a `TimeoutWarning` says what the processes are doing; None: never.
        maxtasksperchild: pieces of minibatches after which a process is replaced, against leaks; None: never.
        comm: the communicator whose ranks share a minibatch; None is the job's world.
        batch: what `batch_size` counts, "global" or "per-rank".
        seed: of the order and of the samples' random numbers; None is the job's.
        on_error: "raise", or "skip" to replace samples that cannot be read, see `PlannedIterator`.
        converter: makes a minibatch of the list of its examples, `converter(examples, device)`, in the processes; good
            where examples differ in shape and are padded. None leaves that to the updater.
        sample_timeout: seconds after which a process that is still reading the same sample is replaced. A sample with
            which this happens twice is an error. None: never.
        device: a GPU to which minibatches are sent ahead, as `distrain.get_device` takes it: the next one is copied
            while this one is worked on. Give the updater the same device. None leaves them in host memory.
        report_time: report the seconds waited for each minibatch as `time/data`.
        feeders: where processes on other hosts, started by `distrain feed`, may connect to: `tcp://host:port`, or
            `tcp://*:port` for all networks of this host. The second rank of a host takes the next port, and so on;
            port 0 takes any free one, which is printed. With it, `n_processes` may be 0.

    Raises:
        ArgumentError: an argument that cannot work.
        TransferError: the dataset cannot travel to other processes.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        repeat: bool = True,
        shuffle: bool | None = None,
        n_processes: int | None = None,
        n_prefetch: int = 1,
        shared_mem: int | None = None,
        order_sampler: Callable[..., Any] | None = None,
        dataset_timeout: float | None = 30.0,
        maxtasksperchild: int | None = None,
        *,
        comm: Communicator | None = None,
        batch: Literal["global", "per-rank"] = "global",
        seed: int | None = None,
        on_error: OnError = "raise",
        converter: Callable[..., Any] | None = None,
        sample_timeout: float | None = 600.0,
        device: Any = None,
        report_time: bool = False,
        feeders: str | None = None,
    ) -> None:
        super().__init__(
            dataset,
            batch_size,
            repeat,
            shuffle,
            order_sampler,
            comm=comm,
            batch=batch,
            seed=seed,
            on_error=on_error,
        )
        self.n_processes = (
            rank_cores() if n_processes is None else count("n_processes", n_processes, 0 if feeders else 1)
        )
        self.n_prefetch = count("n_prefetch", n_prefetch, 0)
        self.shared_mem = None if shared_mem is None else count("shared_mem", shared_mem, 1)
        self.dataset_timeout = seconds("dataset_timeout", dataset_timeout)
        self.maxtasksperchild = None if maxtasksperchild is None else count("maxtasksperchild", maxtasksperchild, 1)
        self.sample_timeout = seconds("sample_timeout", sample_timeout)
        self.converter = converter
        self.device = None if device is None else get_device(device)
        self.report_time = report_time
        self.feeders = feeders
        self._is_closed = False
        self._has_warned = False  # of a sample that takes much longer than others
        self._unplug()
        self._start()

    def _unplug(self) -> None:
        """Without processes, as a copy begins."""
        self._feed: Feed | None = None
        self._stop: Callable[[], Any] | None = None
        self._ahead: deque[tuple[Planned, Job]] = deque()
        self._stage: Stage | None = None
        self._staged: _Staged | None = None
        self._lock = threading.Lock()

    def _start(self) -> Feed:
        from distrain.iterators.feed.feed import Feed, Options
        from distrain.iterators.feed.keys import key_folder
        from distrain.iterators.feed.remote_crew import endpoint_of
        from distrain.iterators.feed.server import Cargo

        if self._is_closed:
            raise FeedError("this iterator is closed: finalize() has ended its processes. Make a new one.")
        cargo = Cargo(self.dataset, self.converter, self._known_seed(), self._on_error)
        self._stage = Stage(self.device) if isinstance(self.device, GpuDevice) else None
        options = Options(
            self.n_processes,
            self.n_prefetch,
            self.shared_mem,
            self.sample_timeout,
            self.maxtasksperchild,
            is_pinned=self._stage is not None,
        )
        if self.feeders is not None:
            options = replace(options, endpoint=endpoint_of(self.feeders, world().intra_rank), keys=key_folder())
        self._feed = feed = Feed(cargo, options)
        if self.feeders is not None and self.feeders.endswith(":0"):
            print(f"distrain: feeders may connect to {feed.address}", file=sys.stderr, flush=True)
        self._seed_of_feed = cargo.seed
        self._stop = weakref.finalize(self, feed.close)
        return feed

    def reset(self) -> None:
        """Back to the start of epoch 0, and to its order. What was read ahead is thrown away."""
        super().reset()
        self._forget()

    def _forget(self) -> None:
        feed: Feed | None = getattr(self, "_feed", None)  # none yet while the iterator is made
        if feed is not None:
            self._ahead.clear()
            self._staged = None
            feed.drop_all()

    def _next_planned(self) -> Planned | None:
        cursor = (self.epoch, self.current_position)
        if self._ahead and self._ahead[0][0].cursor == cursor:  # planned already, when it was ordered
            return self._ahead[0][0]
        return super()._next_planned()

    def _read(self, planned: Planned) -> Batch:
        lock = self._lock  # which is another one afterwards if the processes are replaced
        if not lock.acquire(blocking=False):
            raise FeedError("two threads ask this iterator for a minibatch at the same time; give each one its own")
        try:
            return self._fetch(planned)
        except Exception:
            raise
        except BaseException:  # Ctrl-C between any two steps, perhaps with a message in hand: begin anew
            self._replug()
            raise
        finally:
            lock.release()

    def _fetch(self, planned: Planned) -> Batch:
        feed = self._feed or self._start()
        if not feed.belongs_here:
            raise FeedError(
                "this iterator belongs to the process that this one was forked from; make one here, or fork first"
            )
        if self._seed != self._seed_of_feed:  # a file has brought another one
            self._replug()
            feed = self._start()
        staged, self._staged = self._staged, None
        if staged is None or staged.planned.cursor != planned.cursor:
            staged = self._take(feed, planned)
        self._look_ahead(feed, planned)
        columns = staged.columns
        if self._stage is not None and staged.event is not None:
            self._stage.finish(staged.event)
            if self._ahead and feed.is_ready(self._ahead[0][1]):
                self._staged = self._take(feed, self._ahead[0][0])
        if feed.skipped:
            self._note_skipped(feed.skipped)
            feed.skipped.clear()
        if feed.statistics.straggler is not None:
            self._note_straggler(*feed.statistics.straggler)
            feed.statistics.straggler = None
        if self.report_time:
            report({"time/data": feed.statistics.last_wait_s})
        indices = order.indices(planned.spans, planned.orders)
        return Batch(staged.examples, columns=columns, share=planned.share, indices=indices)

    def _note_straggler(self, index: int, seconds_taken: float) -> None:
        if not self._has_warned:
            self._has_warned = True
            warnings.warn(
                f"sample {index} of {type(self.dataset).__name__} took {seconds_taken:.1f} s, more than 100 times as "
                "long as others. They were read meanwhile; stats() lists the slowest samples and counts such ones.",
                TimeoutWarning,
                stacklevel=5,
            )

    def _take(self, feed: Feed, planned: Planned) -> _Staged:
        """Fetches a minibatch, and starts to send it to the GPU if there is one."""
        ahead = self._ahead
        if ahead and ahead[0][0].cursor != planned.cursor:  # the cursor was moved, or a warning was an error
            self._forget()
        if not ahead:
            ahead.append((planned, feed.submit(planned.runs)))
            self._look_ahead(feed, planned)
        columns, examples = feed.take(ahead[0][1], self.dataset_timeout, _warn)
        ahead.popleft()
        if self._stage is None or columns is None:
            return _Staged(planned, columns, examples, None)
        copies, event = self._stage.begin(columns)
        return _Staged(planned, copies, None, event)

    def _look_ahead(self, feed: Feed, planned: Planned) -> None:
        """Orders what follows the last minibatch that was ordered, or this one."""
        last = self._ahead[-1][0] if self._ahead else planned
        rows = sum(span.stop - span.start for span in last.spans)
        depth = feed.depth(rows)
        while len(self._ahead) < depth:
            following = self._plan(last.step.epoch, last.step.position, last.orders_after)
            if following is None:
                return
            self._ahead.append((following, feed.submit(following.runs)))
            last = following

    def _restore(self, serializer: Any) -> None:
        super()._restore(serializer)
        self._forget()

    def _replug(self) -> None:
        stage, stop = self._stage, self._stop
        self._unplug()
        if stage is not None:
            stage.close()
        if stop is not None:
            stop()

    @property
    def feeders_address(self) -> str | None:
        """Where `distrain feed` can connect to; None if it cannot."""
        return None if self._feed is None else self._feed.address

    def stats(self) -> dict[str, Any]:
        """What the processes have done: waits, queue, throughput, slowest samples, deaths, refused messages.

        Keys: minibatches, wait_s, last_wait_s, ready (minibatches that were there), samples, samples_per_feeder_second
        (a list), slowest_samples (a list of (index, seconds)), respawns, joined and lost (feeders on other hosts),
        deaths, refused, refusals, spilled (pieces that did not fit their place in shared memory), stragglers (samples
        that took a second and a hundred times as long as others), skipped.
        """
        numbers = {} if self._feed is None else self._feed.stats()
        return {**numbers, "skipped": self.skipped}

    def finalize(self) -> None:
        """Ends the processes. Minibatches that were handed out stay good; there are no more."""
        self._is_closed = True
        self._replug()

    def __getstate__(self) -> dict[str, Any]:
        # A copy stands at the same place, and has processes of its own from its first minibatch on.
        own = ("_feed", "_stop", "_ahead", "_stage", "_staged", "_lock", "_reader")
        return {name: value for name, value in vars(self).items() if name not in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reader = None
        self._unplug()


def _warn(message: str) -> None:
    warnings.warn(message, TimeoutWarning, stacklevel=6)
