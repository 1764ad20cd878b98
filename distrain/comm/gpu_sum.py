"""Sums of arrays on GPUs, and the way through host memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from distrain import cuda
from distrain.backend import Array

_PIECE = 2**22  # bytes: one is on its way from or to the GPU while MPI sums another


class GpuSum(ABC):
    """Sums arrays on a GPU over the ranks, in place."""

    @abstractmethod
    def allreduce(self, flat: Array) -> None:
        """Replaces a contiguous array of one axis on a GPU by its sum over the ranks."""

    @abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""


class StagedSum(GpuSum):
    """Through page-locked host memory, piece by piece.

    Args:
        sum_host: sums a host array over the ranks, in place.
    """

    def __init__(self, sum_host: Callable[[Any], None]) -> None:
        self._sum_host = sum_host
        self._bytes = cuda.pinned_empty((0,), np.uint8)
        self._streams: dict[int, tuple[Any, Any]] = {}  # from and to the GPU of that number

    def allreduce(self, flat: Array) -> None:
        """Replaces an array by its sum. Returns when it is there."""
        with flat.device:
            if flat.device.id not in self._streams:
                self._streams[flat.device.id] = cuda.new_stream(), cuda.new_stream()
            fetching, returning = self._streams[flat.device.id]
            if self._bytes.nbytes < flat.nbytes:
                self._bytes = cuda.pinned_empty((flat.nbytes,), np.uint8)
            host = self._bytes[: flat.nbytes].view(flat.dtype)
            fetching.wait_event(cuda.current_stream().record())
            step = max(1, _PIECE // flat.dtype.itemsize)
            bounds = [slice(start, start + step) for start in range(0, flat.size, step)]
            arrivals = [self._fetch(flat[part], host[part], fetching) for part in bounds]
            for part, arrival in zip(bounds, arrivals, strict=True):
                arrival.synchronize()
                self._sum_host(host[part])
                flat[part].set(host[part], stream=returning)
            returning.synchronize()

    @staticmethod
    def _fetch(source: Array, target: Any, stream: Any) -> Any:
        source.get(stream=stream, out=target, blocking=False)
        return stream.record()

    def close(self) -> None:
        """Does nothing: memory and streams go with their owner."""
