"""Differentiation: Variables, functions and the backward pass."""

from distrain.autograd.function import Function as Function
from distrain.autograd.function_node import FunctionNode as FunctionNode
from distrain.autograd.function_node import Primitive as Primitive
from distrain.autograd.gradients import grad as grad
from distrain.autograd.parameter import Parameter as Parameter
from distrain.autograd.variable import Variable as Variable
from distrain.autograd.variable import VariableNode as VariableNode
from distrain.autograd.variable import as_array as as_array
from distrain.autograd.variable import as_variable as as_variable

__all__ = [
    "Function",
    "FunctionNode",
    "Parameter",
    "Primitive",
    "Variable",
    "VariableNode",
    "as_array",
    "as_variable",
    "grad",
]
