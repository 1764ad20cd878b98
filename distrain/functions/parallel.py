"""Work on the samples of a batch in as many threads as BLAS may use.

BLAS itself shares out one product at a time and must meet after each, which costs more than it gains on the small
products of a convolution, and everything between the products stays on one core. Here each thread takes a part of the
batch through all steps, with a single-threaded BLAS. NumPy lets go of the interpreter while it computes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

T = TypeVar("T")

_WORTH_A_THREAD = 2**20  # waking a thread and waiting for it takes about 50 us


class _Workers:
    """The BLAS libraries of this process and a pool of threads; both are looked up when first needed."""

    libraries: list[Any] | None = None
    pool: ThreadPoolExecutor | None = None
    size = 0

    @classmethod
    def limits(cls) -> list[Any]:
        if cls.libraries is None:
            from threadpoolctl import ThreadpoolController

            cls.libraries = ThreadpoolController().select(user_api="blas").lib_controllers
        return cls.libraries

    @classmethod
    def of(cls, size: int) -> ThreadPoolExecutor:
        if cls.pool is None or cls.size != size:
            if cls.pool is not None:
                cls.pool.shutdown()
            cls.pool, cls.size = ThreadPoolExecutor(size, thread_name_prefix="distrain-functions"), size
        return cls.pool

    @classmethod
    def forget(cls) -> None:
        cls.pool = None  # threads do not survive a fork


os.register_at_fork(after_in_child=_Workers.forget)


def each(function: Callable[[slice], T], total: int, work: int) -> list[T]:
    """Calls a function on consecutive parts of `range(total)`, one part a thread.

    Args:
        function: takes a slice; must not write where another part writes, nor call this function.
        total: number of samples.
        work: about how many operations there are in all; a small task stays in this thread.

    Returns:
        The results, in the order of the parts.
    """
    if work < _WORTH_A_THREAD:
        return [function(slice(0, total))]
    libraries = _Workers.limits()
    allowed = [library.get_num_threads() for library in libraries]
    count = min(max(allowed, default=1), total)
    if count <= 1:
        return [function(slice(0, total))]
    parts = [slice(i * total // count, (i + 1) * total // count) for i in range(count)]
    others: list[Future[T]] = []
    for library in libraries:
        library.set_num_threads(1)
    try:
        others += [_Workers.of(count - 1).submit(function, part) for part in parts[1:]]
        first = function(parts[0])
    finally:
        wait(others)
        for library, number in zip(libraries, allowed, strict=True):
            library.set_num_threads(number)
    return [first, *[other.result() for other in others]]
