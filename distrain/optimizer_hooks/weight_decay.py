"""Weight decay (L2 regularization)."""

from __future__ import annotations

from typing import Any


class WeightDecay:
    """Adds `rate * param` to every gradient: `optimizer.add_hook(WeightDecay(1e-4))`.

    Args:
        rate: factor on the parameter.
    """

    name = "WeightDecay"
    call_for_each_param = True
    elementwise = True  # many parameters as one flat array is the same as one after the other
    timing = "pre"

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def __call__(self, rule: Any, param: Any) -> None:
        """Changes the gradient in place."""
        grad = param.grad
        grad += self.rate * param.array
