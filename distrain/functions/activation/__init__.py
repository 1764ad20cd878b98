"""Activation functions."""

from distrain.functions.activation.relu import clipped_relu as clipped_relu
from distrain.functions.activation.relu import elu as elu
from distrain.functions.activation.relu import leaky_relu as leaky_relu
from distrain.functions.activation.relu import relu as relu
from distrain.functions.activation.sigmoid import sigmoid as sigmoid
from distrain.functions.activation.sigmoid import softplus as softplus
from distrain.functions.activation.sigmoid import tanh as tanh
from distrain.functions.activation.softmax import log_softmax as log_softmax
from distrain.functions.activation.softmax import softmax as softmax

__all__ = [
    "clipped_relu",
    "elu",
    "leaky_relu",
    "log_softmax",
    "relu",
    "sigmoid",
    "softmax",
    "softplus",
    "tanh",
]
