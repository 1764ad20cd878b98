"""Loss functions."""

from distrain.functions.loss.mean_squared_error import mean_squared_error as mean_squared_error
from distrain.functions.loss.sigmoid_cross_entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
from distrain.functions.loss.softmax_cross_entropy import softmax_cross_entropy as softmax_cross_entropy

__all__ = [
    "mean_squared_error",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]
