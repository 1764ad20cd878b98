"""Floating-point numbers of 16 bits, in which gradients can travel: float16 and bfloat16.

bfloat16 has the range of float32 and 8 bits of its precision: gradients neither overflow nor vanish in it. NumPy knows
it by way of ml_dtypes. No MPI adds either of them: sums are taken in float32 and rounded once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain.errors import ArgumentError

_BFLOAT16 = "bfloat16"


def as_dtype(given: Any) -> np.dtype[Any]:
    """The dtype that was meant; also `"bfloat16"`.

    Raises:
        ArgumentError: bfloat16, and ml_dtypes is not installed.
    """
    if isinstance(given, str) and given == _BFLOAT16:
        try:
            import ml_dtypes
        except ImportError:
            raise ArgumentError("bfloat16 needs ml_dtypes: pip install 'distrain[bfloat16]'") from None
        given = ml_dtypes.bfloat16
    dtype: np.dtype[Any] = np.dtype(given)
    return dtype


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of this dtype are summed in float32."""
    return dtype.char == "e" or is_bfloat16(dtype)


def is_bfloat16(dtype: np.dtype[Any]) -> bool:
    """Whether it is the dtype of ml_dtypes, which neither CuPy nor MPI takes."""
    return dtype.kind == "V" and str(dtype) == _BFLOAT16


def round_to(wide: NDArray[Any], half: NDArray[Any]) -> None:
    """Writes float32 numbers into an array of 16 bits; what is too large becomes infinite, without a warning."""
    with np.errstate(over="ignore"):
        half[...] = wide
