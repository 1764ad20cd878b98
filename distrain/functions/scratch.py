"""Memory for intermediate results that live as long as one call.

Fresh pages from the operating system cost as much as the arithmetic on them, so each thread keeps its buffers.
"""

from __future__ import annotations

import math
import threading
from typing import Any

import numpy as np

from distrain.backend import Array

_KEEP = 2**24  # bytes; a larger buffer, for a single huge image, is not kept


class _Kept(threading.local):
    def __init__(self) -> None:
        self.buffers: dict[str, Array] = {}


_kept = _Kept()


def empty(xp: Any, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
    """An array with any content; the next call with that name in this thread may overwrite it.

    Args:
        xp: the array module. CuPy keeps freed memory itself, so it gets an ordinary array.
        name: what the buffer is for.
        shape: shape of the array.
        dtype: dtype of the array.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if xp is not np or size > _KEEP:
        return xp.empty(shape, dtype)
    buffers = _kept.buffers
    if name not in buffers or buffers[name].size < size:
        buffers[name] = np.empty(size, np.uint8)
    return buffers[name][:size].view(dtype).reshape(shape)
