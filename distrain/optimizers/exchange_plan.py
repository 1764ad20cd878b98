"""How gradients are exchanged: at once or in buckets, and of which size; found by measuring, then fixed."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from distrain.comm import Communicator
from distrain.comm.half import as_dtype, is_half
from distrain.errors import ArgumentError, WorldError

How = Literal["auto", "measure", "direct", "buckets", "double"]

Layout = list[tuple[str, list[tuple[int, int]]]]
"""Dtype and bounds of each array that is summed."""

VARIABLE = "DISTRAIN_EXCHANGE"

_SIZES = (2**20, 2**22, 2**24)  # bytes
_WORTH_BUCKETS = 2**23  # bytes of all gradients
_ROUNDS = 4
_MAX_TICKETS = 200  # exact in bfloat16, and small enough for the float16 sum of all ranks' tickets
_GAIN = 0.97  # of the time of direct calls, for which buckets are worth a second thread


@dataclass(frozen=True)
class ExchangeSettings:
    """What the user has chosen.

    Attributes:
        how: "direct", "buckets", "measure", "auto", or "double".
        bucket_bytes: size of the buckets.
        dtype: in which gradients are sent; None: their own.
    """

    how: How = "auto"
    bucket_bytes: int = 2**22
    dtype: np.dtype[Any] | None = None

    @property
    def words(self) -> str:
        """All of it, for a comparison and for messages."""
        return f"how={self.how!r}, bucket_bytes={self.bucket_bytes}, dtype={self.dtype}"


def checked_settings(how: str, bucket_bytes: int, dtype: Any) -> ExchangeSettings:
    """Settings of the user's values.

    Raises:
        ArgumentError: a value that cannot be.
    """
    if how not in get_args(How):
        raise ArgumentError(f"gradients can be exchanged in the ways {', '.join(get_args(How))}; {how!r} is none")
    if bucket_bytes < 1:
        raise ArgumentError(f"bucket_bytes must be a positive number of bytes, not {bucket_bytes}")
    wire = None if dtype is None else as_dtype(dtype)
    if wire is not None and not (is_half(wire) or wire.char in "fd"):
        raise ArgumentError(f"gradients can be sent as float16, bfloat16, float32 or float64, not as {wire}")
    return ExchangeSettings(how, bucket_bytes, wire)  # type: ignore[arg-type]


def settings_of(comm: Communicator, environ: Mapping[str, str] = os.environ) -> ExchangeSettings:
    """The settings where the optimizer was told none: the variable DISTRAIN_EXCHANGE, `how` or `buckets:bytes`.

    Raises:
        ArgumentError: the variable says something else.
    """
    how, colon, size = environ.get(VARIABLE, "auto").partition(":")
    if colon and not (how == "buckets" and size.isdecimal()):
        raise ArgumentError(f"{VARIABLE}={how}:{size}: it is one of {', '.join(get_args(How))}, or buckets:<bytes>")
    return checked_settings(how, int(size or 2**22), comm.allreduce_grad_dtype)


def write_choice(serializer: Any, plan: ExchangePlan | None, ranks: int) -> None:
    """Writes what was found by measuring, so that a run which goes on does not measure again."""
    if plan is not None and plan.is_settled and ranks > 1:
        serializer("ranks", ranks)
        serializer("bucket_bytes", plan.bucket_bytes or 0)


def read_choice(serializer: Any, comm: Communicator) -> ExchangeSettings | None:
    """What a run on as many ranks has found; None if the file does not say."""
    ranks, size = serializer("ranks", None), serializer("bucket_bytes", None)
    if ranks is None or size is None or int(ranks) != comm.size:
        return None
    before = settings_of(comm)
    if before.how != "auto":
        return None
    return replace(before, how="buckets" if size else "direct", bucket_bytes=int(size) or before.bucket_bytes)


_tickets = itertools.count()


def agree_on_layout(comm: Communicator, layout: Layout, settings: ExchangeSettings) -> int:
    """Compares what the ranks are going to sum, and how. A collective call.

    Returns:
        A small number, the same on all ranks, for these arrays.

    Raises:
        WorldError: the layouts or the settings differ; on all ranks alike.
    """
    everybody = comm.allgather_obj((layout, settings.words, next(_tickets)))
    first, words, number = everybody[0]
    for rank, (theirs, theirs_words, _) in enumerate(everybody):
        if theirs != first:
            raise WorldError(
                f"rank {rank} would sum {_words(theirs)}, but rank 0 {_words(first)}. Set up the same parameters with "
                "the same optimizers on every rank."
            )
        if theirs_words != words:
            raise WorldError(
                f"rank {rank} would exchange gradients by {theirs_words}, but rank 0 by {words}. Call use_exchange "
                f"alike on every rank, and set {VARIABLE} alike."
            )
    return int(number) % _MAX_TICKETS + 1


def _words(layout: Layout) -> str:
    return ", ".join(f"{len(bounds)} parameters with {bounds[-1][1]} numbers of {dtype}" for dtype, bounds in layout)


class ExchangePlan:
    """How the gradients of one layout are exchanged, step by step.

    The first step shows in which order gradients become complete. Then, if there is something to choose, the
    candidates take turns for a few steps, and the one that was fastest on the slowest rank stays.

    Args:
        settings: what the user has chosen.
        nbytes: of all gradients.
        size: number of ranks.
        may_thread: whether another thread may call MPI.

    Raises:
        ArgumentError: double buffering without threads.

    Attributes:
        dtype: in which gradients are sent; None: their own.
        is_double: whether each step uses the gradients of the step before, while its own are sent.
        arrivals: (group, parameter) in the order in which rank 0's gradients became complete in the first step.
        is_stepping: whether a step has begun.
    """

    def __init__(self, settings: ExchangeSettings, nbytes: int, size: int, may_thread: bool) -> None:
        self.dtype = settings.dtype
        self.is_double = settings.how == "double"
        self.arrivals: list[tuple[int, int]] = []
        self.is_stepping = False
        if self.is_double and not may_thread:
            raise ArgumentError(
                "double buffering sends gradients from a second thread, and this MPI was started without support for "
                "that (MPI_THREAD_MULTIPLE). Leave double buffering out, or use another MPI."
            )
        self._candidates: list[int | None] = candidates(settings, nbytes, size) if may_thread else [None]
        self._times: list[list[float]] = [[] for _ in self._candidates]
        self._steps = 0
        self._chosen = self._candidates == [None]
        self._choice: int | None = None
        self._began = 0.0

    @property
    def is_settled(self) -> bool:
        """Whether it stays as it is from here on."""
        return self._chosen

    @property
    def wants_arrivals(self) -> bool:
        """Whether this step is to show in which order gradients become complete."""
        return not self._chosen and self._steps == 0

    @property
    def bucket_bytes(self) -> int | None:
        """Size of this step's buckets; None for a direct call."""
        if self._chosen:
            return self._choice
        return self._candidates[(self._steps - 1) % len(self._candidates)] if self._steps else None

    def begin(self) -> None:
        """Called at the beginning of a step."""
        self.is_stepping = True
        if not self._chosen:
            self._began = time.perf_counter()

    def end(self, comm: Communicator, arrivals: list[tuple[int, int]]) -> None:
        """Called at the end of a step. A collective call until the choice is made."""
        self.is_stepping = False
        if self._chosen:
            return
        steps, self._steps = self._steps, self._steps + 1
        if steps == 0:
            self.arrivals = comm.bcast_obj(arrivals)
            if len(self._candidates) == 1:
                self._choice, self._chosen = self._candidates[0], True
            return
        self._times[(steps - 1) % len(self._candidates)].append(time.perf_counter() - self._began)
        if steps == _ROUNDS * len(self._candidates):
            best = [min(times) for times in self._times]
            slowest = [max(times) for times in zip(*comm.allgather_obj(best), strict=True)]
            self._choice, self._chosen = choose(self._candidates, slowest), True


def candidates(settings: ExchangeSettings, nbytes: int, size: int) -> list[int | None]:
    """Bucket sizes to choose from; None stands for a direct call.

    With more than two ranks the order in which MPI adds up may depend on the length of an array. So that a run can be
    repeated bit by bit, the clock decides there only if the user says so.
    """
    how = settings.how
    if how == "auto":
        how = "measure" if size == 2 else "buckets" if nbytes >= _WORTH_BUCKETS else "direct"
    if how in ("direct", "double"):
        return [None]
    if how == "buckets":
        return [settings.bucket_bytes]
    return [None, *(bucket for bucket in _SIZES if bucket <= nbytes // 2)]


def choose(sizes: list[int | None], seconds: list[float]) -> int | None:
    """The fastest; a direct call unless buckets are clearly faster.

    Args:
        sizes: the candidates; the first is the direct call.
        seconds: of a step with each.
    """
    best = min(range(len(sizes)), key=seconds.__getitem__)
    return sizes[best] if seconds[best] < _GAIN * seconds[0] else sizes[0]
