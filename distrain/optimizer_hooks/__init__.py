"""Hooks for optimizers: `optimizer.add_hook(distrain.optimizer_hooks.WeightDecay(1e-4))`."""

from distrain.optimizer_hooks.gradient_clipping import GradientClipping as GradientClipping
from distrain.optimizer_hooks.weight_decay import WeightDecay as WeightDecay

__all__ = ["GradientClipping", "WeightDecay"]
