"""RMSprop."""

from __future__ import annotations

from typing import Any

from distrain.backend import Array
from distrain.optimizers.gradient_method import GradientMethod
from distrain.optimizers.hyperparameter import HyperparameterProxy
from distrain.optimizers.update_rule import ElementwiseRule, representable_eps


class RMSpropRule(ElementwiseRule):
    """`ms <- alpha ms + (1 - alpha) g²; w <- w - lr g / (√ms + eps)`."""

    state_names = ("ms",)

    def step(self, w: Array, g: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], t: int, xp: Any) -> None:
        """See `ElementwiseRule.step`."""
        (ms,), (a,) = state, scratch
        p = self.hyperparam.source
        eps = representable_eps(p.eps, w.dtype)
        ms *= p.alpha
        xp.multiply(g, g, out=a)
        a *= 1 - p.alpha
        ms += a
        if p.eps_inside_sqrt:
            xp.add(ms, eps, out=a)
            xp.sqrt(a, out=a)
        else:
            xp.sqrt(ms, out=a)
            a += eps
        xp.divide(g, a, out=a)
        a *= p.lr
        w -= a


class RMSprop(GradientMethod):
    """RMSprop.

    Args:
        lr: learning rate.
        alpha: how much of the old mean square is kept.
        eps: keeps the denominator from zero.
        eps_inside_sqrt: add eps to the mean square and not to its root.

    References:
        T. Tieleman, G. Hinton: Lecture 6.5 - rmsprop, 2012.
    """

    lr = HyperparameterProxy("lr")
    alpha = HyperparameterProxy("alpha")
    eps = HyperparameterProxy("eps")
    eps_inside_sqrt = HyperparameterProxy("eps_inside_sqrt")

    def __init__(self, lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8, eps_inside_sqrt: bool = False) -> None:
        super().__init__()
        self.hyperparam.lr = lr
        self.hyperparam.alpha = alpha
        self.hyperparam.eps = eps
        self.hyperparam.eps_inside_sqrt = eps_inside_sqrt

    def create_update_rule(self) -> RMSpropRule:
        """A new update rule for one parameter."""
        return RMSpropRule(self.hyperparam)
