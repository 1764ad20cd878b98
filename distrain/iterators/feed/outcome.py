"""What a finished minibatch becomes: columns, a list of examples, or an exception."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np

from distrain.dataset.batch import Batch
from distrain.errors import SampleError, TransferError
from distrain.iterators.feed.protocol import Done, Failed
from distrain.iterators.feed.window import Job, Piece

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
    parts = [piece.values[0] for piece in job.pieces if piece.values is not None and _form(piece) == "parcel"]
    columns = _joined(parts) if len(parts) == len(job.pieces) else None
    if columns is not None:
        return _owned(columns) if copy else columns, None
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
            examples += list(Batch(columns=_owned(values[0]) if copy else values[0]))
        else:
            examples += _owned(values) if copy else values
    return None, examples


def _form(piece: Piece) -> str:
    return piece.answer.form if isinstance(piece.answer, Done) else ""


def _joined(parts: list[Any]) -> Any:
    """The columns of consecutive rows as one; None if they are of more than one kind."""
    first = parts[0]
    if len(parts) == 1:
        return first
    if isinstance(first, np.ndarray):
        is_alike = all(isinstance(part, np.ndarray) and part.dtype == first.dtype for part in parts)
        return (
            np.concatenate(parts, dtype=first.dtype)
            if is_alike and len({part.shape[1:] for part in parts}) == 1
            else None
        )
    if type(first) is tuple and all(type(part) is tuple and len(part) == len(first) for part in parts):
        joined = [_joined(list(column)) for column in zip(*parts, strict=True)]
        return None if any(column is None for column in joined) else tuple(joined)
    if type(first) is dict and all(type(part) is dict and part.keys() == first.keys() for part in parts):
        by_key = {key: _joined([part[key] for part in parts]) for key in first}
        return None if any(column is None for column in by_key.values()) else by_key
    return None


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
    name = type(dataset).__name__
    error = _built_in(failure)
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


def _built_in(failure: Failed) -> Exception | None:
    """The exception itself, made anew; None if its class is not built in, or cannot be made with what has travelled."""
    kind = getattr(builtins, failure.error, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception) or issubclass(kind, _NOT_TO_RAISE):
        return None
    for arguments in (failure.arguments or [], [failure.message]):
        try:
            error: Exception = kind(*arguments)
        except (TypeError, ValueError):  # such as UnicodeDecodeError, which has five arguments
            continue
        if str(error) == failure.message:
            return error
    return None


def poisonous(job: Job, row: int, strikes: int, cause: str, words: str) -> Failed:
    """The failure of a sample that ends the process that reads it."""
    epoch, index = job.sample(row)
    message = f"it has ended {strikes} feeders in a row ({cause})"
    if words:
        message += f". The last one wrote:\n{words}"
    return Failed(0, row, epoch, index, "SampleError", message, [], "", None)
