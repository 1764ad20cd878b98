"""A minibatch worked through in parts: who gets which samples, and how what the parts report becomes one report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from distrain import minibatch
from distrain.autograd import Variable
from distrain.cuda import is_gpu_array
from distrain.errors import ArgumentError
from distrain.reporting import DictSummary, Reporter, report


def count_samples(arguments: Any) -> int:
    """Number of samples in the arguments of a loss function: the length of the first array in them.

    Raises:
        ArgumentError: there is no array.
    """
    for item in _leaves(arguments):
        if _has_axis(item):
            return len(item)
    raise ArgumentError(
        "a minibatch can only be worked through in parts if its arrays are arguments of the loss function: "
        "optimizer.update(model, x, t), and not a function without arguments"
    )


def part_of(arguments: Any, start: int, stop: int, count: int) -> Any:
    """The arguments with only some of the samples.

    Args:
        arguments: a nest of tuples and dicts. Arrays and Variables are cut along their first axis, and lists of that
            many items between the items; anything else stays.
        start, stop: which samples.
        count: how many there are.

    Raises:
        ArgumentError: an array of another length.
    """
    if _has_axis(arguments) or (isinstance(arguments, list) and len(arguments) == count):
        if len(arguments) != count:
            raise ArgumentError(
                f"a minibatch of {count} samples can only be worked through in parts if the first axis of every array "
                f"is that of the samples; one has shape {arguments.shape}"
            )
        return arguments[start:stop]
    if isinstance(arguments, Mapping):
        return {key: part_of(value, start, stop, count) for key, value in arguments.items()}
    if isinstance(arguments, (tuple, list)):
        return type(arguments)([part_of(value, start, stop, count) for value in arguments])
    return arguments


def _leaves(arguments: Any) -> Iterator[Any]:
    if isinstance(arguments, Mapping):
        arguments = list(arguments.values())
    if isinstance(arguments, (tuple, list)):
        for item in arguments:
            yield from _leaves(item)
    else:
        yield arguments


def _has_axis(item: Any) -> bool:
    return (isinstance(item, (np.ndarray, Variable)) or is_gpu_array(item)) and bool(item.ndim)


@contextmanager
def announced(share: minibatch.Share | None, start: int, stop: int, part: int) -> Iterator[None]:
    """Announces a part of this rank's share for the length of a `with` block.

    Args:
        share: the rank's, if there is one.
        start, stop: the samples of the part, counted from the rank's first.
        part: its number.
    """
    if share is not None:
        minibatch.announce(share._replace(start=share.start + start, count=stop - start, part=part))
    try:
        yield
    finally:
        minibatch.announce(share)


class PartReports:
    """What the parts report, each weighted by its samples.

    Attributes:
        summaries: one for each part, in their order.
    """

    def __init__(self) -> None:
        self.summaries: list[DictSummary] = []

    @contextmanager
    def collect(self, samples: int) -> Iterator[None]:
        """Keeps what is reported in a `with` block for itself."""
        observation: dict[str, Any] = {}
        with _scope(observation):
            yield
        summary = DictSummary()
        summary.add(observation, samples)
        self.summaries.append(summary)

    def skip(self) -> None:
        """Notes a part without samples."""
        self.summaries.append(DictSummary())

    def report(self) -> None:
        """Reports the means over the parts."""
        merged = DictSummary()
        for summary in self.summaries:
            merged.merge(summary.sums())
        report(merged.compute_mean())


@contextmanager
def _scope(observation: dict[str, Any]) -> Iterator[None]:
    reporter = Reporter.current()
    if reporter is None:
        yield
        return
    with reporter.scope(observation):
        yield


def bounds_of(count: int, parts: int) -> Sequence[tuple[int, int]]:
    """The parts of so many samples, as even as can be, none of them empty."""
    parts = max(1, min(parts, count))
    edges = [count * i // parts for i in range(parts + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))
