"""Copies of minibatches to a GPU that run beside the training, from memory that the GPU can read by itself."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

import numpy as np

from distrain import cuda
from distrain.backend import GpuDevice

_ON_GPU = "biufc"  # the kinds of numbers that a GPU has; strings and times stay where they are


class Stage:
    """The way of minibatches to one GPU, on a stream of its own.

    Args:
        device: the GPU.
    """

    def __init__(self, device: GpuDevice) -> None:
        self._device = device
        self._cupy = cuda.require_cupy()
        with device:
            self._stream = self._cupy.cuda.Stream(non_blocking=True)
        self._sources: deque[tuple[Any, Any]] = deque()  # what the GPU may still be reading, and when it no longer does

    def begin(self, arrays: Any) -> tuple[Any, Any]:
        """Starts to copy an array, or a tuple or dict of arrays; returns the copies and the event that ends it.

        The copies may be used after `finish`.
        """
        with self._device:
            # Their memory may have been freed by a computation that is still running, so the copy comes after it.
            copies = self._empty(arrays)
            self._stream.wait_event(self._cupy.cuda.get_current_stream().record())
            self._fill(copies, arrays)
            event = self._stream.record()
        while self._sources and self._sources[0][0].done:
            self._sources.popleft()
        self._sources.append((event, arrays))
        return copies, event

    def finish(self, event: Any) -> None:
        """Makes the current stream, not the CPU, wait for a copy."""
        with self._device:
            self._cupy.cuda.get_current_stream().wait_event(event)

    def close(self) -> None:
        """Waits for the copies that are under way."""
        self._stream.synchronize()
        self._sources.clear()

    def _empty(self, arrays: Any) -> Any:
        if isinstance(arrays, np.ndarray) and arrays.dtype.kind in _ON_GPU:
            return self._cupy.empty(arrays.shape, arrays.dtype)
        if isinstance(arrays, dict):
            return {key: self._empty(array) for key, array in arrays.items()}
        if isinstance(arrays, (tuple, list)):
            return type(arrays)([self._empty(array) for array in arrays])
        return arrays

    def _fill(self, copies: Any, arrays: Any) -> None:
        if isinstance(arrays, np.ndarray):
            if copies is not arrays:
                copies.set(np.ascontiguousarray(arrays), self._stream)
        elif isinstance(arrays, dict):
            for key, array in arrays.items():
                self._fill(copies[key], array)
        elif isinstance(arrays, (tuple, list)):
            for copy, array in zip(copies, arrays, strict=True):
                self._fill(copy, array)


def pin(owner: object, address: int, nbytes: int) -> None:
    """Locks the pages of some memory, so that the GPU reads them without the CPU, until their owner goes.

    Args:
        owner: the object that holds the memory.
        address: of the memory.
        nbytes: of it, whole pages.
    """
    runtime = cuda.require_cupy().cuda.runtime
    runtime.hostRegister(address, nbytes, 0)
    weakref.finalize(owner, runtime.hostUnregister, address).atexit = False  # CUDA may have ended by then
