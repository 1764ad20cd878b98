"""What an array is, told before its bytes are sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from distrain import backend
from distrain.backend import Array
from distrain.cuda import is_gpu_array, to_gpu


@dataclass(frozen=True, slots=True)
class Header:
    """Dtype, shape and kind of place of an array."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    on_gpu: bool

    @classmethod
    def of(cls, array: Array) -> Header:
        """That of an array."""
        return cls(array.dtype, array.shape, is_gpu_array(array))

    def room(self) -> NDArray[Any]:
        """A new array on the host, with anything in it."""
        return np.empty(self.shape, self.dtype)

    def misfit(self, out: Array | None) -> str | None:
        """Why the array cannot be written into `out`; None if it can."""
        if out is None or (out.dtype, out.shape) == (self.dtype, self.shape):
            return None
        return f"{self.dtype!s} {self.shape} does not fit into its out, {out.dtype!s} {out.shape}"

    def deliver(self, packed: NDArray[Any], out: Array | None) -> Array:
        """The array as its sender had it, on the current GPU if it was on one; or in `out`."""
        if out is not None:
            backend.copyto(out, packed)
            return out
        return to_gpu(packed) if self.on_gpu else packed


def flat_bytes(array: Array) -> NDArray[np.uint8]:
    """The numbers of an array in C order; a view where that is possible."""
    return np.ascontiguousarray(backend.to_cpu(array)).reshape(-1).view(np.uint8)
