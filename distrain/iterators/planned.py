"""What all iterators over a dataset share: the cursor, the orders of the epochs, this rank's part, the saved state."""

from __future__ import annotations

import time
import warnings
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from distrain import minibatch, rng
from distrain.clock import clock
from distrain.comm import Communicator, local, world
from distrain.dataset.batch import Batch
from distrain.dataset.columns import columns_at
from distrain.dataset.sharding import rank_share
from distrain.errors import ArgumentError, DatasetError, MismatchError
from distrain.iterators import order, seats
from distrain.iterators.arguments import count
from distrain.iterators.iterator import Iterator
from distrain.iterators.order_samplers import ShuffleOrderSampler
from distrain.iterators.plan import Planned
from distrain.iterators.reading import OnError, Reader, Skipped, SkippedSampleWarning, checked_on_error

_MAX_SEED = 2**63


class PlannedIterator(Iterator):
    """An iterator whose minibatches follow from a cursor of two integers; subclasses say how samples are read.

    Args:
        dataset: anything with `__getitem__` and `__len__`. If it has an attribute `is_scattered` that is true, it is
            this rank's own, and so are its minibatches: `comm` is then the process alone.
        batch_size: samples of a minibatch of the job; with `batch="per-rank"`, of a rank.
        repeat: whether epochs follow each other without end.
        shuffle: whether the order is random; None means yes, unless an `order_sampler` is given.
        order_sampler: makes the order of each epoch, see `OrderSampler`.
        comm: the communicator whose ranks share a minibatch; None is the job's world.
        batch: what `batch_size` counts.
        seed: of the order and of the samples' random numbers; None is the job's.
        on_error: what happens when the dataset raises: "raise" lets the exception out, "skip" reads the next sample of
            the dataset in place of the broken one, warns, and lists it in `skipped`.

    Attributes:
        dataset: as given.
        batch_size: as given.
        order_sampler: as given, or the one that `shuffle` stands for; None keeps the order of the dataset.
        current_position: samples of the current epoch that are used up.
        skipped: how many samples `on_error="skip"` has replaced.

    Raises:
        ArgumentError: a batch size that is no positive integer, `shuffle` and `order_sampler` together, an unknown
            `batch` or `on_error`, an order sampler that gives no order.
        DatasetError: the dataset is empty, or has no length.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        repeat: bool = True,
        shuffle: bool | None = None,
        order_sampler: Callable[..., Any] | None = None,
        *,
        comm: Communicator | None = None,
        batch: Literal["global", "per-rank"] = "global",
        seed: int | None = None,
        on_error: OnError = "raise",
    ) -> None:
        if batch not in ("global", "per-rank"):
            raise ArgumentError(f"batch must be 'global' or 'per-rank', not {batch!r}")
        if shuffle is not None and order_sampler is not None:
            raise ArgumentError("shuffle and order_sampler exclude each other; leave shuffle out")
        self.dataset = dataset
        self.batch_size = count("batch_size", batch_size, 1)
        self.order_sampler = ShuffleOrderSampler() if order_sampler is None and shuffle is not False else order_sampler
        self._dataset_length = _length(dataset)
        self._repeat = bool(repeat)
        self._unit = batch
        self._scattered = bool(getattr(dataset, "is_scattered", False))
        self._comm = comm
        self._joined: tuple[int, int, int] | None = None  # rank, size, samples of the job's minibatch
        self._shuffles = type(self.order_sampler) is ShuffleOrderSampler and self.order_sampler.random_state is None
        self._seed = _seed(seed)
        self._on_error = checked_on_error(on_error)
        self._reader: Reader | None = None
        self.skipped = 0
        self.reset()

    def reset(self) -> None:
        """Back to the start of epoch 0, and to its order."""
        self.epoch = 0
        self.is_new_epoch = False
        self.current_position = 0
        self._previous_epoch_detail = -1.0
        self._epoch_of_given_order: int | None = None  # a file brought an order that cannot be computed
        # Replaced, never changed: a failed read leaves it alone, and a copy of the iterator has its own.
        self._orders: Mapping[int, order.Order | None] = {0: self._order(0, None, 0)}

    @property
    def repeat(self) -> bool:
        """Whether epochs follow each other without end."""
        return self._repeat

    @property
    def epoch_detail(self) -> float:
        """Epochs as a fraction."""
        return self.epoch + self.current_position / self._epoch_size

    @property
    def previous_epoch_detail(self) -> float | None:
        """`epoch_detail` before the last minibatch; None before the first."""
        return None if self._previous_epoch_detail < 0 else self._previous_epoch_detail

    @property
    def global_batch_size(self) -> int:
        """Samples of a minibatch of the job."""
        return self._join()[2]

    def __next__(self) -> Batch:
        start = time.perf_counter()
        planned = self._next_planned()
        if planned is None:
            minibatch.announce(None)
            raise StopIteration
        batch = self._read(planned)  # may raise; the cursor then stays before this minibatch
        step = planned.step
        self._previous_epoch_detail = self.epoch + self.current_position / self._epoch_size
        self.is_new_epoch = step.epoch != self.epoch
        self.epoch, self.current_position = step.epoch, step.position
        self._orders = planned.orders_after
        minibatch.announce(planned.share)
        clock.lap("data", start)
        return batch

    def _next_planned(self) -> Planned | None:
        """The minibatch that comes next, None at the end."""
        return self._plan(self.epoch, self.current_position, self._orders)

    def _plan(self, epoch: int, position: int, orders: Mapping[int, order.Order | None]) -> Planned | None:
        """The minibatch after a cursor; None when there is none. Changes nothing.

        Args:
            epoch: of the cursor.
            position: of the cursor.
            orders: of that epoch, at least.
        """
        rank, size, batch_size = self._joined or self._join()
        length = _size(orders.get(epoch), self._dataset_length)
        step = order.next_minibatch(epoch, position, batch_size, length, self._repeat)
        if step is None:
            return None
        if step.epoch != epoch and self._repeat:
            orders = self._orders_until(step.epoch, epoch, position, orders)
        spans, mine = step.spans, None
        if not self._scattered:
            start, stop = (0, step.total) if size == 1 else rank_share(step.total, rank, size)
            before = order.ordinal(epoch, position, batch_size, length)
            ranks = None if self._comm is None else size
            mine = minibatch.Share(before, start, stop - start, step.total, ranks)
            if size > 1:  # a rank without a sample gets the first one, which weighs nothing
                spans = order.part(spans, start, stop) if stop > start else order.part(spans, 0, 1)
        return Planned((epoch, position), step, spans, orders, mine)

    @abstractmethod
    def _read(self, planned: Planned) -> Batch:
        """The batch of a planned minibatch."""

    def _join(self) -> tuple[int, int, int]:
        """Asks for the communicator, once."""
        if self._joined is None:
            comm = local() if self._scattered else world() if self._comm is None else self._comm
            size = comm.size
            batch_size = self.batch_size * (size if self._unit == "per-rank" else 1)
            if batch_size < size and comm.rank == 0:
                warnings.warn(
                    f"a minibatch of {batch_size} samples for {size} ranks leaves {size - batch_size} of them without "
                    "work; use fewer ranks, a larger batch_size, or batch='per-rank'",
                    stacklevel=3,
                )
            self._joined = comm.rank, size, batch_size
        return self._joined

    def _collated(self, planned: Planned) -> Batch | None:
        """A minibatch whose samples lie in arrays, or in a list; None if they have to be read one by one."""
        indices = order.indices(planned.spans, planned.orders)
        dataset = self.dataset
        columns = columns_at(dataset, indices)
        if columns is not None:
            batch = Batch(columns=columns, share=planned.share, indices=indices)
            if len(batch) != len(indices):
                raise DatasetError(
                    f"columns_at of {type(dataset).__name__} gave {len(batch)} samples for {len(indices)} indices"
                )
            return batch
        if type(dataset) in (list, tuple):
            return Batch([dataset[i] for i in indices.tolist()], share=planned.share, indices=indices)
        return None

    def _batch_of(self, planned: Planned, examples: list[Any]) -> Batch:
        return Batch(examples, share=planned.share, indices=order.indices(planned.spans, planned.orders))

    def _examples(self, planned: Planned) -> list[Any]:
        """The examples of a minibatch, read one by one in this thread."""
        reader = self._reader_here()
        examples = reader.examples(planned.runs)
        if reader.skipped:
            self._note_skipped(reader.skipped)
            reader.skipped = []
        return examples

    def _reader_here(self) -> Reader:
        reader = self._reader
        if reader is None or reader.dataset is not self.dataset or reader.seed != self._seed:
            reader = self._reader = Reader(self.dataset, self._known_seed(), self._on_error)
        return reader

    def _note_skipped(self, skipped: Sequence[Skipped]) -> None:
        self.skipped += len(skipped)
        for one in skipped:
            warnings.warn(
                f"sample {one.index} of {type(self.dataset).__name__} (epoch {one.epoch}) cannot be read and is "
                f"replaced by sample {one.substitute}: {one.error}",
                SkippedSampleWarning,
                stacklevel=4,
            )

    def _known_seed(self) -> int:
        if self._seed is None:
            self._seed = rng.seed()
        return self._seed

    @property
    def _epoch_size(self) -> int:
        return _size(self._orders.get(self.epoch), self._dataset_length)

    def _orders_until(
        self, last: int, epoch: int, position: int, known: Mapping[int, order.Order | None]
    ) -> Mapping[int, order.Order | None]:
        orders = dict(known)
        for later in range(epoch + 1, last + 1):
            orders[later] = self._order(later, orders[later - 1], position)
        return orders

    def _order(
        self, epoch: int, previous: order.Order | None, position: int, seed: int | None = None
    ) -> order.Order | None:
        """The order of an epoch; None stands for that of the dataset."""
        if self.order_sampler is None:
            return None
        if seed is None:
            seed = self._known_seed()
        if self._shuffles:
            return order.permutation(seed, epoch, self._dataset_length)
        current = np.arange(self._dataset_length) if previous is None else previous[:]
        with seats.kept():
            seats.sit(seed, epoch, seats.ORDER)
            made = self.order_sampler(current, position)
        checked = _checked_order(made, self._dataset_length, f"order_sampler {self.order_sampler!r}")
        if previous is not None and len(checked) != len(previous):
            raise ArgumentError(
                f"order_sampler {self.order_sampler!r} gave {len(checked)} indices for epoch {epoch}, but "
                f"{len(previous)} for the one before. All epochs must have one length."
            )
        return checked

    def serialize(self, serializer: Any) -> None:
        """Writes or reads the cursor: a few integers, and the order where it cannot be computed.

        A run that continues elsewhere, on any number of ranks, hands out exactly the samples that were left. A file
        that says nothing about seed, dataset and batch (Chainer's) is read too; the order in it holds to the end of
        its epoch.

        Raises:
            MismatchError: the file was written with a dataset of another length or another global batch size.
        """
        if serializer.is_writer:
            self._write(serializer)
        else:
            self._restore(serializer)

    def _write(self, serializer: Any) -> None:
        computable = self.order_sampler is None or (self._shuffles and self.epoch != self._epoch_of_given_order)
        serializer("current_position", self.current_position)
        serializer("epoch", self.epoch)
        serializer("is_new_epoch", self.is_new_epoch)
        serializer("order", None if computable else self._orders.get(self.epoch))
        serializer("previous_epoch_detail", self._previous_epoch_detail)
        serializer("seed", self._seed)
        serializer("dataset_length", self._dataset_length)
        serializer("batch_size", self.global_batch_size)

    def _restore(self, serializer: Any) -> None:
        position = int(serializer("current_position", self.current_position))
        epoch = int(serializer("epoch", self.epoch))
        is_new_epoch = bool(serializer("is_new_epoch", self.is_new_epoch))
        lenient = serializer.lenient()  # Chainer's files lack some of these
        stored = lenient("order", None)
        previous = lenient("previous_epoch_detail", None)
        seed = lenient("seed", None)
        _must_match("samples in the dataset", lenient("dataset_length", None), self._dataset_length)
        _must_match("samples in a minibatch of the job", lenient("batch_size", None), self.global_batch_size)
        seed = self._seed if seed is None else int(seed)
        orders = self._restored_orders(epoch, seed, stored)
        size = _size(orders.get(epoch), self._dataset_length)
        if epoch < 0 or not 0 <= position < size:
            raise MismatchError(
                f"the file stands at position {position} of epoch {epoch}, but an epoch has {size} samples here. "
                "Give the iterator the dataset that the file was written with."
            )
        self.epoch, self.current_position, self.is_new_epoch = epoch, position, is_new_epoch
        self._seed, self._orders = seed, orders
        self._epoch_of_given_order = None if stored is None else epoch
        if previous is not None:
            self._previous_epoch_detail = float(previous)

    def _restored_orders(self, epoch: int, seed: int | None, stored: Any) -> Mapping[int, order.Order | None]:
        if epoch < 0:  # refused by the caller
            return {}
        if stored is not None:
            return {epoch: self._stored_order(stored)}
        if epoch == self.epoch and seed == self._seed and epoch in self._orders:
            return self._orders
        return {epoch: self._order(epoch, None, 0, seed)}

    def _stored_order(self, stored: Any) -> order.Order:
        try:
            found = _checked_order(stored, self._dataset_length, "the order in the file")
        except ArgumentError as error:
            raise MismatchError(f"{error}. Give the iterator the dataset that the file was written with.") from error
        if self._shuffles:
            _must_match("samples in the order of an epoch", len(found), self._dataset_length)
        return found


def _size(epoch_order: order.Order | None, dataset_length: int) -> int:
    return dataset_length if epoch_order is None else len(epoch_order)


def _must_match(what: str, stored: Any, own: int) -> None:
    if stored is not None and int(stored) != own:
        raise MismatchError(
            f"{what}: {int(stored)} when the file was written, {own} now. The run could not go on where it stopped; "
            "restore the old value, or start a new run and load the model only."
        )


def _checked_order(made: Any, length: int, source: str) -> order.Order:
    array = np.asarray(made)
    if array.ndim != 1 or array.dtype.kind not in "iu" or not len(array):
        raise ArgumentError(
            f"{source} must be a sequence of sample indices, but has shape {array.shape} and dtype {array.dtype}"
        )
    if not (0 <= array.min() and array.max() < length):
        raise ArgumentError(f"{source} holds {array.min()} … {array.max()}, but the samples are 0 … {length - 1}")
    return array.astype(np.intp)  # a copy: the sampler may reuse its own


def _length(dataset: Any) -> int:
    try:
        length = len(dataset)
    except TypeError as error:
        raise DatasetError(
            f"{type(dataset).__name__} has no length, which an iterator needs: give it a __len__"
        ) from error
    if length == 0:
        raise DatasetError(f"the dataset ({type(dataset).__name__}) is empty: there is nothing to iterate over")
    return length


def _seed(value: Any) -> int | None:
    if value is None:
        return None
    if not isinstance(value, (int, np.integer)) or not 0 <= value < _MAX_SEED:
        raise ArgumentError(f"seed must be an integer in 0 … 2**63 - 1, not {value!r}")
    return int(value)
