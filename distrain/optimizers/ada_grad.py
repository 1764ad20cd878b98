"""AdaGrad."""

from __future__ import annotations

from typing import Any

from distrain.backend import Array
from distrain.optimizers.gradient_method import GradientMethod
from distrain.optimizers.hyperparameter import HyperparameterProxy
from distrain.optimizers.update_rule import ElementwiseRule, representable_eps


class AdaGradRule(ElementwiseRule):
    """`h <- h + g²; w <- w - lr g / (√h + eps)`."""

    state_names = ("h",)

    def step(self, w: Array, g: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], t: int, xp: Any) -> None:
        """See `ElementwiseRule.step`."""
        (h,), (a,) = state, scratch
        p = self.hyperparam.source
        xp.multiply(g, g, out=a)
        h += a
        xp.sqrt(h, out=a)
        a += representable_eps(p.eps, a.dtype)
        xp.divide(g, a, out=a)
        a *= p.lr
        w -= a


class AdaGrad(GradientMethod):
    """AdaGrad.

    Args:
        lr: learning rate.
        eps: keeps the denominator from zero.

    References:
        J. Duchi, E. Hazan, Y. Singer: Adaptive Subgradient Methods, 2011.
    """

    lr = HyperparameterProxy("lr")
    eps = HyperparameterProxy("eps")

    def __init__(self, lr: float = 0.001, eps: float = 1e-8) -> None:
        super().__init__()
        self.hyperparam.lr = lr
        self.hyperparam.eps = eps

    def create_update_rule(self) -> AdaGradRule:
        """A new update rule for one parameter."""
        return AdaGradRule(self.hyperparam)
