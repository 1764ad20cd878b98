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
        self._streams: dict[int, Any] = {}  # by number of the GPU

    def allreduce(self, flat: Array) -> None:
        """Replaces an array by its sum. Returns when it is there."""
        with flat.device:
            stream = self._streams.get(flat.device.id)
            if stream is None:
                stream = self._streams[flat.device.id] = cuda.new_stream()
            if self._bytes.nbytes < flat.nbytes:
                self._bytes = cuda.pinned_empty((flat.nbytes,), np.uint8)
            host = self._bytes[: flat.nbytes].view(flat.dtype)
            stream.wait_event(cuda.current_stream().record())
            step = max(1, _PIECE // flat.dtype.itemsize)
            bounds = [slice(start, start + step) for start in range(0, flat.size, step)]
            arrivals = [self._fetch(flat[part], host[part], stream) for part in bounds]
            back = cuda.new_stream() if len(bounds) > 1 else stream  # not behind what is still being fetched
            for part, arrival in zip(bounds, arrivals, strict=True):
                arrival.synchronize()
                self._sum_host(host[part])
                flat[part].set(host[part], stream=back)
            back.synchronize()

    @staticmethod
    def _fetch(source: Array, target: Any, stream: Any) -> Any:
        source.get(stream=stream, out=target, blocking=False)
        return stream.record()

    def close(self) -> None:
        """Does nothing: memory and streams go with their owner."""
