"""`LayerNormalization`: normalization of each sample."""

from __future__ import annotations

from typing import Any

from distrain.autograd import Parameter, Variable
from distrain.autograd.type_check import expect_float, expect_ndim
from distrain.backend import Array
from distrain.functions.normalization.layer_normalization import layer_normalization
from distrain.initializers import One, Zero, get_initializer
from distrain.links.link import Link


class LayerNormalization(Link):
    """Normalizes each sample over its units, then scales and shifts.

    Args:
        size: number of units; None: learned from the first input.
        eps: added to the variance.
        initial_gamma, initial_beta: initializers of scale and shift; ones and zeros if None.

    References:
        J. L. Ba, J. R. Kiros, G. E. Hinton: Layer Normalization, 2016.
    """

    def __init__(
        self, size: int | None = None, eps: float = 1e-6, initial_gamma: Any = None, initial_beta: Any = None
    ) -> None:
        super().__init__()
        self.eps = eps
        with self.init_scope():
            self.gamma = Parameter(get_initializer(initial_gamma, One()), size)
            self.beta = Parameter(get_initializer(initial_beta, Zero()), size)

    def forward(self, x: Variable | Array) -> Variable:
        """Normalizes a batch.

        Args:
            x: shape (N, size).
        """
        if not self.gamma.is_initialized:
            expect_ndim("layer_normalization", "x", x, 2)
            expect_float("layer_normalization", "x", x)
            self.gamma.initialize((x.shape[1],))
            self.beta.initialize((x.shape[1],))
        return layer_normalization(x, self.gamma, self.beta, self.eps)
