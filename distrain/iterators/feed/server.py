"""Reads the rows of a minibatch: what a feeder does, apart from messages."""

from __future__ import annotations

import builtins
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.dataset.batch import Batch
from distrain.dataset.columns import columns_at
from distrain.errors import TransferError, WireError
from distrain.iterators.feed import layout as layouts
from distrain.iterators.feed.parcels import NO_REGION, Writer, payload
from distrain.iterators.feed.protocol import Done, Failed, Work
from distrain.iterators.reading import OnError, Reader

_BIG = 1 << 14  # bytes of an example

_known_layout = lru_cache(maxsize=64)(layouts.unpack_layout)


@dataclass(frozen=True)
class Cargo:
    """What a feeder needs to know.

    Attributes:
        dataset: to read.
        converter: makes a minibatch of examples, `converter(examples, device)`; None leaves that to the rank.
        seed: of the samples' random numbers.
        on_error: what happens when the dataset raises.
    """

    dataset: Any
    converter: Callable[..., Any] | None
    seed: int
    on_error: OnError


class Server:
    """Does one piece of work after the other.

    Args:
        cargo: what to read, and how.
        mark: told `(ticket, row of the minibatch, nanoseconds)` before each row, and `(0, 0, 0)` after the last.
    """

    def __init__(self, cargo: Cargo, mark: Callable[[int, int, int], None]) -> None:
        self._dataset = cargo.dataset
        self._converter = cargo.converter
        self._reader = Reader(cargo.dataset, cargo.seed, cargo.on_error)
        self._skips = cargo.on_error == "skip"
        self._mark = mark
        self._ticket = 0
        self._start = 0
        self._row = 0  # the one being read, within the work
        self._began = 0
        self._slowest = (0, 0)  # nanoseconds, row within the work

    def serve(self, work: Work, memory: NDArray[np.uint8] | None) -> Done | Failed:
        """Reads the rows.

        Args:
            work: which.
            memory: the slot's bytes; None if there is none here.
        """
        start = time.perf_counter()
        self._ticket, self._start = work.ticket, work.start
        self._row, self._slowest, self._began = 0, (0, 0), 0
        self._reader.skipped = []
        try:
            form, layout, spilled, payload = self._read(work, memory)
        except (Exception, SystemExit) as error:
            return self._failed(work, error)
        finally:
            self._mark(0, 0, 0)
        nanoseconds, row = self._slowest
        skipped = [(one.epoch, one.index, one.substitute, one.error) for one in self._reader.skipped]
        seconds = time.perf_counter() - start
        index = _sample(work, row)[1]
        return Done(work.ticket, form, seconds, nanoseconds * 1e-9, index, layout, spilled, skipped, payload)

    def _read(self, work: Work, memory: NDArray[np.uint8] | None) -> tuple[str, bytes, int, Sequence[Any]]:
        layout = _known_layout(work.layout) if work.layout else None
        views = None
        if layout is not None and memory is not None:
            if layout.nbytes(work.rows) > len(memory):
                raise WireError(f"{layout.nbytes(work.rows)} bytes of columns do not fit a slot of {len(memory)}")
            views = layout.views(memory, work.rows)
        region = NO_REGION if memory is None else region_of(memory, layout, work.start, work.stop, work.rows)
        if self._converter is None and not self._skips:
            columns = self._columns(work)
            if columns is not None:
                count = work.stop - work.start
                if layout is not None and views is not None and layout.write_columns(views, work.start, columns, count):
                    return "columns", b"", 0, ()
                return self._parcelled("parcel", [columns], region, layouts.layout_of_columns(columns))
        if self._converter is None and layout is not None and views is not None and layout.row_nbytes >= _BIG:
            in_place = _InPlace(layout, views, work.start)
            self._reader.examples(work.runs, self._before, in_place)
            self._finish_row()
            if in_place.fits:
                return "columns", b"", 0, ()
            self._reader.skipped = []  # all are read once more, and travel as they are
        examples = self._reader.examples(work.runs, self._before)
        self._finish_row()
        if self._converter is not None:
            made = self._converted(self._converter, work, examples)
            return self._parcelled("batch", [made], region, None)
        if layout is not None and views is not None and layout.write_examples(views, work.start, examples):
            return "columns", b"", 0, ()
        if layout is not None and memory is None:  # another host: the columns travel
            own = layout.views(np.empty(layout.nbytes(len(examples)), np.uint8), len(examples))
            if layout.write_examples(own, 0, examples):
                return self._parcelled("parcel", [layout.assembled(own)], NO_REGION, layout)
        return self._parcelled("examples", examples, region, layouts.layout_of(examples[0]))

    def _converted(self, converter: Callable[..., Any], work: Work, examples: list[Any]) -> Any:
        indices = _indices(work)
        try:
            return converter(Batch(examples, indices=indices), None)
        except Exception as error:
            error.add_note(f"in the converter, for the samples {indices.tolist()}")
            raise

    def _columns(self, work: Work) -> Any:
        self._mark(work.ticket, work.start, time.monotonic_ns())
        indices = _indices(work)
        columns = columns_at(self._dataset, indices)
        if columns is not None:
            found = len(Batch(columns=columns))
            if found != len(indices):
                raise ValueError(
                    f"columns_at of {type(self._dataset).__name__} gave {found} samples for {len(indices)} indices"
                )
        return columns

    def _parcelled(
        self, form: str, values: Sequence[Any], region: NDArray[np.uint8], layout: layouts.Layout | None
    ) -> tuple[str, bytes, int, Sequence[Any]]:
        writer = Writer(region)
        nodes = []
        for self._row, value in enumerate(values):
            nodes.append(writer.packed(value))
        return form, b"" if layout is None else layout.packed, writer.spilled, payload(writer, nodes)

    def _before(self, row: int) -> None:
        now = time.monotonic_ns()
        if row:
            self._note_duration(now)
        self._row, self._began = row, now
        self._mark(self._ticket, self._start + row, now)

    def _finish_row(self) -> None:
        self._note_duration(time.monotonic_ns())

    def _note_duration(self, now: int) -> None:
        if now - self._began > self._slowest[0]:
            self._slowest = now - self._began, self._row

    def _failed(self, work: Work, error: BaseException) -> Failed:
        epoch, index = _sample(work, self._row)
        name = type(error).__qualname__
        is_known = getattr(builtins, name, None) is type(error) or isinstance(error, TransferError)
        if not is_known and type(error).__module__ != "builtins":
            name = f"{type(error).__module__}.{name}"
        plain = all(arg is None or type(arg) in (bool, int, float, str) for arg in error.args)
        notes = [str(note) for note in getattr(error, "__notes__", [])]
        trace = "".join(traceback.format_exception(error))
        arguments = [*error.args] if plain and len(error.args) < 16 else None
        return Failed(work.ticket, work.start + self._row, epoch, index, name, str(error), notes, trace, arguments)


class _InPlace:
    """Writes examples to their rows as soon as they are read, and lets go of them.

    A big example is in the caches then, and its memory is free for the next one before the allocator asks the system
    for more: fresh pages cost several times what the copy does.

    Args:
        layout: of the minibatch.
        views: its columns.
        start: row of the first example.

    Attributes:
        fits: whether all examples so far are in their rows.
    """

    def __init__(self, layout: layouts.Layout, views: Sequence[NDArray[Any]], start: int) -> None:
        self.fits = True
        self._layout = layout
        self._views = views
        self._start = start

    def __call__(self, row: int, example: Any) -> None:
        self.fits = self.fits and self._layout.write_example(self._views, self._start + row, example)


def region_of(
    memory: NDArray[np.uint8], layout: layouts.Layout | None, start: int, stop: int, rows: int
) -> NDArray[np.uint8]:
    """The part of a slot, behind its columns, for what rows `start … stop - 1` hold that fits no column."""
    behind = memory if layout is None else memory[layout.nbytes(rows) :]
    unit = len(behind) // rows // layouts.ALIGNMENT * layouts.ALIGNMENT
    return behind[start * unit : stop * unit]


def _indices(work: Work) -> NDArray[np.intp]:
    return np.concatenate([np.asarray(indices, np.intp) for _, indices in work.runs])


def _sample(work: Work, row: int) -> tuple[int, int]:
    """Epoch and index of a row within the work."""
    for epoch, indices in work.runs:
        if row < len(indices):
            return epoch, indices[row]
        row -= len(indices)
    raise IndexError(row)
