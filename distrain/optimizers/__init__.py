"""Optimizers: `distrain.optimizers.Adam()`."""

from distrain.optimizers.ada_grad import AdaGrad as AdaGrad
from distrain.optimizers.adam import Adam as Adam
from distrain.optimizers.adam import AdamW as AdamW
from distrain.optimizers.gradient_method import GradientMethod as GradientMethod
from distrain.optimizers.hyperparameter import Hyperparameter as Hyperparameter
from distrain.optimizers.hyperparameter import HyperparameterProxy as HyperparameterProxy
from distrain.optimizers.optimizer import Optimizer as Optimizer
from distrain.optimizers.rmsprop import RMSprop as RMSprop
from distrain.optimizers.sgd import SGD as SGD
from distrain.optimizers.sgd import MomentumSGD as MomentumSGD
from distrain.optimizers.update_rule import ElementwiseRule as ElementwiseRule
from distrain.optimizers.update_rule import UpdateRule as UpdateRule

__all__ = [
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "ElementwiseRule",
    "GradientMethod",
    "Hyperparameter",
    "HyperparameterProxy",
    "MomentumSGD",
    "Optimizer",
    "RMSprop",
    "UpdateRule",
]
