"""Answers with a payload: what is in it, and its way into the columns of a minibatch."""

from __future__ import annotations

from typing import Any

from distrain.errors import WireError
from distrain.iterators.feed import parcels
from distrain.iterators.feed.protocol import Done
from distrain.iterators.feed.server import region_of
from distrain.iterators.feed.window import Piece


def unpacked(piece: Piece, done: Done, is_remote: bool, is_converted: bool) -> list[Any]:
    """The values in a payload, which are as many as its form says.

    Args:
        piece: what was to be read.
        done: the answer.
        is_remote: whether it comes from another host, which has no slot.
        is_converted: whether whole minibatches are expected.

    Raises:
        WireError: they are not, or it is malformed.
    """
    job = piece.job
    region = parcels.NO_REGION
    if job.memory is not None and not is_remote:
        region = region_of(job.memory, job.layout, piece.start, piece.stop, job.rows)
    values = parcels.unpacked(region, done.payload)
    expected = piece.stop - piece.start if done.form == "examples" else 1
    if len(values) != expected or (done.form == "batch") != is_converted:
        raise WireError(f"{len(values)} values came in the form {done.form!r} for {expected} rows")
    return values


def write_into_columns(piece: Piece) -> bool:
    """Writes the rows of an answer that came by itself to the columns; False if there are some that they do not fit."""
    job, values, answer = piece.job, piece.values, piece.answer
    if values is None or job.layout is None or job.memory is None or not isinstance(answer, Done):
        return True
    views = job.layout.views(job.memory, job.rows)
    if answer.form == "parcel":
        made_by_it = answer.layout == job.layout.packed
        fits = job.layout.write_columns(views, piece.start, values[0], piece.stop - piece.start, made_by_it)
    elif answer.form == "examples":
        fits = job.layout.write_examples(views, piece.start, values)
    else:
        return True
    if fits:
        piece.values = None
    return fits
