"""Clipping of the norm of the whole gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from distrain.errors import ArgumentError


class GradientClipping:
    """Scales all gradients down if their common L2 norm exceeds a threshold.

    Args:
        threshold: largest norm.

    Raises:
        ArgumentError: the threshold is not positive.

    References:
        R. Pascanu, T. Mikolov, Y. Bengio: On the difficulty of training recurrent neural networks, 2013, algorithm 1.
    """

    name = "GradientClipping"
    call_for_each_param = False
    works_on_parts = True
    timing = "pre"

    def __init__(self, threshold: float) -> None:
        if not threshold > 0:
            raise ArgumentError(f"the threshold of GradientClipping must be positive, not {threshold}")
        self.threshold = threshold

    def __call__(self, optimizer: Any) -> None:
        """Changes the gradients in place."""
        pieces = optimizer.gradient_runs()
        if not pieces:
            return
        squares = optimizer.sum_over_pieces(self._square)
        if all(piece.xp is np for piece in pieces):
            norm = float(np.sqrt(squares))
            if not np.isfinite(norm):  # squares of large float32 numbers overflow where their sum in float64 does not
                norm = float(np.sqrt(optimizer.sum_over_pieces(self._square_in_float64)))
            if norm <= self.threshold:
                return
            rate: Any = self.threshold / norm
        else:  # the rate stays on the device: asking whether it is below 1 would wait for the GPU
            xp = pieces[0].xp
            rate = xp.minimum(1.0, self.threshold / xp.sqrt(xp.asarray(squares)))
        for piece in pieces:
            grad = piece.grad
            grad *= rate if isinstance(rate, float) else rate.astype(grad.dtype)

    def _square_in_float64(self, piece: Any) -> Any:
        return np.square(piece.grad, dtype=np.float64).sum()

    def _square(self, piece: Any) -> Any:
        flat = piece.grad.ravel()
        if piece.xp is not np:  # summed in float64, since nobody may look whether float32 has overflowed
            return piece.xp.square(flat.astype(np.float64)).sum()
        if flat.dtype == np.float16:
            flat = flat.astype(np.float32)
        return np.dot(flat, flat).astype(np.float64)
