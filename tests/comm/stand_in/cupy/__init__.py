"""A stand-in for CuPy on machines without a GPU: arrays in host memory, streams that are threads.

It has what distrain.comm uses of CuPy 14, with its signatures, and nothing else. What a stream is given happens later,
in another thread, so that code which does not wait for it fails.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import cuda

__version__ = "14.2.0"


class ndarray(np.ndarray):
    """Numbers that are said to be on a GPU."""

    @property
    def data(self) -> Any:
        return cuda.MemoryPointer(self.__array_interface__["data"][0])

    @property
    def device(self) -> Any:
        return cuda.Device()

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        target = np.empty(self.shape, self.dtype) if out is None else out
        (stream or cuda.Stream.null).put(lambda: np.copyto(target, self.view(np.ndarray)))
        if blocking:
            (stream or cuda.Stream.null).synchronize()
        return target

    def set(self, arr: Any, stream: Any = None) -> None:
        (stream or cuda.Stream.null).put(lambda: np.copyto(self.view(np.ndarray), arr))


def array(x: Any, dtype: Any = None) -> Any:
    return np.array(x, dtype).view(ndarray)


def asarray(x: Any) -> Any:
    return x if isinstance(x, ndarray) else array(x)


def full(shape: Any, value: Any, dtype: Any = None) -> Any:
    return np.full(shape, value, dtype).view(ndarray)
