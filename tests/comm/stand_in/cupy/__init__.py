"""A stand-in for CuPy on machines without a GPU: arrays in host memory, streams that are threads.

It has what distrain.comm uses of CuPy 14, with its signatures; all else is NumPy's. What a stream is given happens
later, in another thread, and takes its time, so that code which does not wait for it fails. There are as many GPUs as
STAND_IN_GPUS says (1).

STAND_IN_PROBE says what happens in the process that tries whether MPI takes memory of GPUs: "crash", "hang" or "wrong".
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

import numpy as np

from . import cuda

__version__ = "14.2.0"
_FAULT = os.environ.get("STAND_IN_PROBE", "") if "gpu_probe" in " ".join(sys.orig_argv) else ""
_BYTES_A_SECOND = 2e9

if _FAULT == "crash":
    os.kill(os.getpid(), signal.SIGSEGV)
if _FAULT == "hang":
    time.sleep(600)


class ndarray(np.ndarray):
    """Numbers that are said to be on a GPU."""

    def __array_finalize__(self, obj: Any) -> None:
        self._number = obj._number if isinstance(obj, ndarray) else cuda.Device.current()

    @property
    def data(self) -> Any:
        return cuda.MemoryPointer(self.__array_interface__["data"][0])

    @property
    def device(self) -> Any:
        return cuda.Device(self._number)

    def get(self, stream: Any = None, order: str = "C", out: Any = None, blocking: bool = True) -> Any:
        target = np.empty(self.shape, self.dtype) if out is None else out
        (stream or cuda.Stream.null).put(lambda: _copy(target, self.view(np.ndarray) + (_FAULT == "wrong")))
        if blocking:
            (stream or cuda.Stream.null).synchronize()
        return target

    def set(self, arr: Any, stream: Any = None) -> None:
        (stream or cuda.Stream.null).put(lambda: _copy(self.view(np.ndarray), arr))


def _copy(target: Any, source: Any) -> None:
    time.sleep(target.nbytes / _BYTES_A_SECOND)
    np.copyto(target, source)


def array(x: Any, dtype: Any = None) -> Any:
    return np.array(x, dtype).view(ndarray)


def asarray(x: Any, dtype: Any = None) -> Any:
    return x if isinstance(x, ndarray) and dtype in (None, x.dtype) else array(x, dtype)


def full(shape: Any, value: Any, dtype: Any = None) -> Any:
    return np.full(shape, value, dtype).view(ndarray)


def __getattr__(name: str) -> Any:
    """All else is NumPy's; what it makes is said to be on the current GPU."""
    found = getattr(np, name)
    if isinstance(found, type) or not callable(found):
        return found

    def call(*args: Any, **kwargs: Any) -> Any:
        result = found(*args, **kwargs)
        return result.view(ndarray) if isinstance(result, np.ndarray) else result

    return call
