"""Stochastic gradient descent, with and without momentum."""

from __future__ import annotations

from typing import Any

from distrain.backend import Array
from distrain.optimizers.gradient_method import GradientMethod
from distrain.optimizers.hyperparameter import HyperparameterProxy
from distrain.optimizers.update_rule import ElementwiseRule


class SGDRule(ElementwiseRule):
    """`w <- w - lr g`."""

    def step(self, w: Array, g: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], t: int, xp: Any) -> None:
        """See `ElementwiseRule.step`."""
        (a,) = scratch
        xp.multiply(g, self.hyperparam.source.lr, out=a)
        w -= a


class SGD(GradientMethod):
    """Vanilla stochastic gradient descent.

    Args:
        lr: learning rate.
    """

    lr = HyperparameterProxy("lr")

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.hyperparam.lr = lr

    def create_update_rule(self) -> SGDRule:
        """A new update rule for one parameter."""
        return SGDRule(self.hyperparam)


class MomentumSGDRule(ElementwiseRule):
    """`v <- momentum v - lr g; w <- w + v`."""

    state_names = ("v",)

    def step(self, w: Array, g: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], t: int, xp: Any) -> None:
        """See `ElementwiseRule.step`."""
        (v,), (a,) = state, scratch
        h = self.hyperparam.source
        v *= h.momentum
        xp.multiply(g, h.lr, out=a)
        v -= a
        w += v


class MomentumSGD(GradientMethod):
    """Stochastic gradient descent with momentum.

    Args:
        lr: learning rate.
        momentum: how much of the last step is kept.

    References:
        B. T. Polyak: Some methods of speeding up the convergence of iteration methods, 1964.
    """

    lr = HyperparameterProxy("lr")
    momentum = HyperparameterProxy("momentum")

    def __init__(self, lr: float = 0.01, momentum: float = 0.9) -> None:
        super().__init__()
        self.hyperparam.lr = lr
        self.hyperparam.momentum = momentum

    def create_update_rule(self) -> MomentumSGDRule:
        """A new update rule for one parameter."""
        return MomentumSGDRule(self.hyperparam)
