"""Arithmetic, sums, products, extremes."""

from distrain.functions.math.basic import absolute as absolute
from distrain.functions.math.basic import add as add
from distrain.functions.math.basic import div as div
from distrain.functions.math.basic import mul as mul
from distrain.functions.math.basic import neg as neg
from distrain.functions.math.basic import pow as pow
from distrain.functions.math.basic import sub as sub
from distrain.functions.math.exponential import exp as exp
from distrain.functions.math.exponential import expm1 as expm1
from distrain.functions.math.exponential import log as log
from distrain.functions.math.exponential import log1p as log1p
from distrain.functions.math.exponential import rsqrt as rsqrt
from distrain.functions.math.exponential import sqrt as sqrt
from distrain.functions.math.exponential import square as square
from distrain.functions.math.matmul import matmul as matmul
from distrain.functions.math.minmax import argmax as argmax
from distrain.functions.math.minmax import argmin as argmin
from distrain.functions.math.minmax import clip as clip
from distrain.functions.math.minmax import max as max
from distrain.functions.math.minmax import maximum as maximum
from distrain.functions.math.minmax import min as min
from distrain.functions.math.minmax import minimum as minimum
from distrain.functions.math.sum import average as average
from distrain.functions.math.sum import mean as mean
from distrain.functions.math.sum import sum as sum

__all__ = [
    "absolute",
    "add",
    "argmax",
    "argmin",
    "average",
    "clip",
    "div",
    "exp",
    "expm1",
    "log",
    "log1p",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mul",
    "neg",
    "pow",
    "rsqrt",
    "sqrt",
    "square",
    "sub",
    "sum",
]
