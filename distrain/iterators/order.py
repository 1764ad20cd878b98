"""The order of samples, as pure functions. Every iterator takes its indices from here, so all resume alike.

A cursor is two integers, `(epoch, position)`: the minibatches so far have used `epoch` whole passes over the samples
and the first `position` samples of the next. A minibatch of the job is a tuple of spans; a rank takes its part of the
spans and looks the sample indices up in the orders of their epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from distrain.iterators.keyed import KeyedOrder

Order: TypeAlias = NDArray[np.intp] | KeyedOrder
"""Sample indices in the order of one epoch, `(epoch size,)`: an array, or computed where they are asked for."""

_LARGEST_ARRAY = 1 << 20


class Span(NamedTuple):
    """The samples at `start … stop - 1` in the order of an epoch."""

    epoch: int
    start: int
    stop: int


class Step(NamedTuple):
    """One minibatch of the job: its `total` samples, and the cursor after it."""

    epoch: int
    position: int
    total: int
    spans: tuple[Span, ...]


def permutation(seed: int, epoch: int, length: int) -> Order:
    """The shuffled order of an epoch: a function of its arguments alone.

    The generator is Philox keyed by `(seed, epoch)`, so the order of an epoch does not depend on those before. Up to
    2**20 samples it shuffles an array; of more, the generator gives the keys of a permutation that is computed where it
    is asked for, so that a resume in the middle of a billion samples costs what it costs at their start.
    """
    bits = np.random.Philox(key=np.array([seed, epoch], np.uint64))
    if length > _LARGEST_ARRAY:
        return KeyedOrder(length, bits)
    return np.random.Generator(bits).permutation(length)


def next_minibatch(epoch: int, position: int, batch_size: int, length: int, repeat: bool) -> Step | None:
    """The minibatch that follows a cursor.

    With `repeat` a minibatch that reaches the end of an epoch is filled up from the next one (from several, if it is
    larger than an epoch). Without, the last minibatch is what is left.

    Args:
        epoch: of the cursor.
        position: of the cursor, in `0 … length - 1`.
        batch_size: samples of the job.
        length: samples of an epoch.
        repeat: whether epochs follow each other without end.

    Returns:
        The step, or None when the only epoch is over.
    """
    stop = position + batch_size
    if not repeat:
        if epoch:
            return None
        if stop >= length:
            return Step(1, 0, length - position, (Span(0, position, length),))
    if stop < length:
        return Step(epoch, stop, batch_size, (Span(epoch, position, stop),))
    spans = [Span(epoch, position, length)]
    rest = stop - length
    epoch += 1
    while rest >= length:
        spans.append(Span(epoch, 0, length))
        rest -= length
        epoch += 1
    if rest:
        spans.append(Span(epoch, 0, rest))
    return Step(epoch, rest, batch_size, tuple(spans))


def ordinal(epoch: int, position: int, batch_size: int, length: int) -> int:
    """How many minibatches were handed out before a cursor."""
    return (epoch * length + position) // batch_size


def part(spans: tuple[Span, ...], start: int, stop: int) -> tuple[Span, ...]:
    """The samples `start … stop - 1` of a minibatch, `0 <= start <= stop <= total`."""
    pieces = []
    before = 0
    for epoch, first, last in spans:
        low = first + max(start - before, 0)
        high = min(last, first + stop - before)
        if low < high:
            pieces.append(Span(epoch, low, high))
        before += last - first
    return tuple(pieces)


def indices(spans: tuple[Span, ...], orders: Mapping[int, Order | None]) -> NDArray[np.intp]:
    """The sample indices of spans, `(N,)`; possibly a view of an order.

    Args:
        spans: of a minibatch, at least one.
        orders: the order of each epoch in the spans; None stands for 0, 1, 2 …
    """
    if len(spans) == 1:  # nearly always
        epoch, start, stop = spans[0]
        order = orders[epoch]
        return np.arange(start, stop) if order is None else order[start:stop]
    pieces = []
    for epoch, start, stop in spans:
        order = orders[epoch]
        pieces.append(np.arange(start, stop) if order is None else order[start:stop])
    return np.concatenate(pieces)
