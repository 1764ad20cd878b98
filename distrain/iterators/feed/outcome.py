"""What a finished minibatch becomes: columns, a list of examples, or an exception."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from distrain.dataset.batch import Batch
from distrain.errors import SampleError, TransferError
from distrain.iterators.feed.protocol import Done, Failed
from distrain.iterators.feed.window import Job

_NOT_TO_RAISE = (StopIteration, StopAsyncIteration, GeneratorExit, SystemExit, KeyboardInterrupt)


def minibatch_of(job: Job, copy: bool) -> tuple[Any, list[Any] | None]:
    """The columns of a minibatch, or None and its examples.

    Args:
        job: all of whose pieces are done.
        copy: gives arrays memory of their own, and the slot back at once.
    """
    memory = job.memory
    if memory is not None and copy:
        memory = memory.copy()
    views = None if job.layout is None or memory is None else job.layout.views(memory, job.rows)
    if job.layout is not None and views is not None and all(piece.values is None for piece in job.pieces):
        return job.layout.assembled(views), None
    examples: list[Any] = []
    for piece in job.pieces:
        assert isinstance(piece.answer, Done)
        values = piece.values
        if values is None:
            assert job.layout is not None
            assert views is not None
            examples += [job.layout.example(views, row) for row in range(piece.start, piece.stop)]
        elif piece.answer.form == "batch":
            return _owned(values[0]) if copy else values[0], None
        elif piece.answer.form == "parcel":
            if len(job.pieces) == 1:
                return values[0], None
            examples += list(Batch(columns=values[0]))
        else:
            examples += _owned(values) if copy else values
    return None, examples


def _owned(value: Any) -> Any:
    """The same values in memory of their own."""
    if isinstance(value, np.ndarray):
        return value.copy()
    if isinstance(value, (tuple, list)):
        return type(value)(_owned(part) for part in value)
    if isinstance(value, dict):
        return {key: _owned(part) for key, part in value.items()}
    return value


def error_of(failure: Failed, dataset: Any) -> BaseException:
    """The exception to raise: of the same class if that is built in, so `except OSError` works; else SampleError."""
    kind = getattr(builtins, failure.error, None)
    name = type(dataset).__name__
    error: Exception | None = None
    if isinstance(kind, type) and issubclass(kind, Exception) and not issubclass(kind, _NOT_TO_RAISE):
        try:
            error = kind(*(failure.arguments or ()))
        except TypeError:  # such as UnicodeDecodeError, whose arguments did not travel
            error = None
    if error is not None and str(error) != failure.message:
        error = None
    if error is None and failure.error == "TransferError":
        error = TransferError(f"sample {failure.index} of {name} (epoch {failure.epoch}): {failure.message}")
    if error is None:
        what = f"{failure.error}: {failure.message}" if failure.traceback else failure.message
        error = SampleError(f"sample {failure.index} of {name} (epoch {failure.epoch}) cannot be read: {what}")
    for note in failure.notes:
        error.add_note(note)
    place = f"reading sample {failure.index} of {name} (epoch {failure.epoch})"
    if not any("reading sample" in note or "in the converter" in note for note in failure.notes):
        error.add_note(place)
    if failure.traceback:
        error.add_note(f"in a feeder:\n{failure.traceback.rstrip()}")
    return error


def poisonous(job: Job, row: int, strikes: int, cause: str, words: str) -> Failed:
    """The failure of a sample that ends the process that reads it."""
    epoch, index = job.sample(row)
    message = f"it has ended {strikes} feeders in a row ({cause})"
    if words:
        message += f". The last one wrote:\n{words}"
    return Failed(0, row, epoch, index, "SampleError", message, [], "", None)
