"""Adam, with AMSGrad and decoupled weight decay."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from distrain.backend import Array
from distrain.optimizers.gradient_method import GradientMethod
from distrain.optimizers.hyperparameter import Hyperparameter, HyperparameterProxy
from distrain.optimizers.update_rule import ElementwiseRule, representable_eps


class AdamRule(ElementwiseRule):
    """Algorithm 1 of Kingma and Ba with the bias corrections moved into the step size (end of their section 2)."""

    state_names: ClassVar[tuple[str, ...]] = ("m", "v")

    def step(self, w: Array, g: Array, state: tuple[Array, ...], scratch: tuple[Array, ...], t: int, xp: Any) -> None:
        """See `ElementwiseRule.step`."""
        m, v, *rest = state
        (a,) = scratch
        p = self.hyperparam.source
        beta1, beta2 = p.beta1, p.beta2
        # m <- beta1 m + (1 - beta1) g
        xp.subtract(g, m, a)
        a *= 1 - beta1
        m += a
        # v <- beta2 v + (1 - beta2) g²
        xp.multiply(g, g, a)
        a -= v
        a *= 1 - beta2
        v += a
        if rest:
            (vhat,) = rest
            xp.maximum(vhat, v, out=vhat)
            v = vhat
        # w <- w - eta (alpha_t m / (√v + eps) + rate w)
        alpha_t = p.alpha * math.sqrt(1 - beta2**t) / (1 - beta1**t)
        xp.sqrt(v, a)
        a += representable_eps(p.eps, a.dtype)
        xp.divide(m, a, a)
        a *= p.eta * alpha_t
        if p.weight_decay_rate:
            w *= 1 - p.eta * p.weight_decay_rate
        w -= a


class AMSGradRule(AdamRule):
    """Adam with the maximum of all second moments in the denominator."""

    state_names = ("m", "v", "vhat")


class Adam(GradientMethod):
    """Adam.

    Args:
        alpha: step size.
        beta1, beta2: how much of the old moments is kept.
        eps: keeps the denominator from zero.
        eta: schedule multiplier on the whole step, weight decay included.
        weight_decay_rate: decoupled weight decay, the part of a parameter that each step takes away, times `eta`. It is
            not multiplied by `alpha`: a schedule for both is one of `eta`.
        amsgrad: use the maximum of all second moments.

    References:
        D. P. Kingma, J. Ba: Adam, 2015. S. J. Reddi, S. Kale, S. Kumar: On the Convergence of Adam and Beyond, 2018.
        I. Loshchilov, F. Hutter: Decoupled Weight Decay Regularization, 2019.
    """

    alpha = HyperparameterProxy("alpha")
    beta1 = HyperparameterProxy("beta1")
    beta2 = HyperparameterProxy("beta2")
    eps = HyperparameterProxy("eps")
    eta = HyperparameterProxy("eta")
    weight_decay_rate = HyperparameterProxy("weight_decay_rate")
    amsgrad = HyperparameterProxy("amsgrad")

    def __init__(
        self,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        eta: float = 1.0,
        weight_decay_rate: float = 0.0,
        amsgrad: bool = False,
    ) -> None:
        super().__init__()
        p: Hyperparameter = self.hyperparam
        p.alpha, p.beta1, p.beta2, p.eps, p.eta = alpha, beta1, beta2, eps, eta
        p.weight_decay_rate, p.amsgrad = weight_decay_rate, amsgrad

    @property
    def lr(self) -> float:
        """The step size with the bias corrections of the last update; `alpha` before the first."""
        if self.t == 0:
            return float(self.alpha)
        return float(self.alpha * math.sqrt(1 - self.beta2**self.t) / (1 - self.beta1**self.t))

    def create_update_rule(self) -> AdamRule:
        """A new update rule for one parameter."""
        return AMSGradRule(self.hyperparam) if self.amsgrad else AdamRule(self.hyperparam)


class AdamW(Adam):
    """Adam with decoupled weight decay. See `Adam`."""

    def __init__(
        self,
        alpha: float = 0.001,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        eta: float = 1.0,
        weight_decay_rate: float = 0.01,
        amsgrad: bool = False,
    ) -> None:
        super().__init__(alpha, beta1, beta2, eps, eta, weight_decay_rate, amsgrad)
