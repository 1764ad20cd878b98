"""Measures without a gradient."""

from distrain.functions.evaluation.accuracy import accuracy as accuracy
from distrain.functions.evaluation.accuracy import binary_accuracy as binary_accuracy

__all__ = [
    "accuracy",
    "binary_accuracy",
]
