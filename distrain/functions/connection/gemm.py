"""Matrix product for arrays, with half precision widened on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from distrain.backend import Array


def gemm(a: Array, b: Array, dtype: Any, out: Array | None = None) -> Array:
    """`a @ b` as `dtype`.

    BLAS knows no float16, and NumPy's own loop for it is about a hundred times slower than float32, so on the CPU half
    precision is multiplied as float32. A GPU multiplies it itself.

    Args:
        a: (M, K).
        b: (K, N).
        dtype: dtype of the result.
        out: (M, N), where the result is written if dtype and memory layout allow.

    Returns:
        (M, N); `out` itself if it was used.
    """
    if a.dtype == b.dtype == dtype and (dtype.char != "e" or not isinstance(a, np.ndarray)):
        if out is not None and out.dtype == dtype and out.flags.c_contiguous:
            return a.dot(b, out)
        return a.dot(b)
    wide = np.float32 if dtype.char == "e" else dtype
    return a.astype(wide, copy=False).dot(b.astype(wide, copy=False)).astype(dtype, copy=False)
