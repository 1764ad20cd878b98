"""Functions on Variables, one family a folder; `import distrain.functions as F`."""

from distrain.functions.activation.relu import clipped_relu as clipped_relu
from distrain.functions.activation.relu import elu as elu
from distrain.functions.activation.relu import leaky_relu as leaky_relu
from distrain.functions.activation.relu import relu as relu
from distrain.functions.activation.sigmoid import sigmoid as sigmoid
from distrain.functions.activation.sigmoid import softplus as softplus
from distrain.functions.activation.sigmoid import tanh as tanh
from distrain.functions.activation.softmax import log_softmax as log_softmax
from distrain.functions.activation.softmax import softmax as softmax
from distrain.functions.array.broadcast import broadcast as broadcast
from distrain.functions.array.broadcast import broadcast_to as broadcast_to
from distrain.functions.array.broadcast import sum_to as sum_to
from distrain.functions.array.cast import cast as cast
from distrain.functions.array.get_item import get_item as get_item
from distrain.functions.array.get_item import select_item as select_item
from distrain.functions.array.join import concat as concat
from distrain.functions.array.join import separate as separate
from distrain.functions.array.join import split_axis as split_axis
from distrain.functions.array.join import stack as stack
from distrain.functions.array.repeat import repeat as repeat
from distrain.functions.array.repeat import tile as tile
from distrain.functions.array.shape import expand_dims as expand_dims
from distrain.functions.array.shape import flatten as flatten
from distrain.functions.array.shape import moveaxis as moveaxis
from distrain.functions.array.shape import reshape as reshape
from distrain.functions.array.shape import rollaxis as rollaxis
from distrain.functions.array.shape import squeeze as squeeze
from distrain.functions.array.shape import swapaxes as swapaxes
from distrain.functions.array.shape import transpose as transpose
from distrain.functions.array.where import where as where
from distrain.functions.connection.convolution_2d import convolution_2d as convolution_2d
from distrain.functions.connection.convolution_2d import deconvolution_2d as deconvolution_2d
from distrain.functions.connection.embed_id import embed_id as embed_id
from distrain.functions.connection.linear import linear as linear
from distrain.functions.evaluation.accuracy import accuracy as accuracy
from distrain.functions.evaluation.accuracy import binary_accuracy as binary_accuracy
from distrain.functions.loss.mean_squared_error import mean_squared_error as mean_squared_error
from distrain.functions.loss.sigmoid_cross_entropy import sigmoid_cross_entropy as sigmoid_cross_entropy
from distrain.functions.loss.softmax_cross_entropy import softmax_cross_entropy as softmax_cross_entropy
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
from distrain.functions.noise.dropout import dropout as dropout
from distrain.functions.normalization.batch_normalization import batch_normalization as batch_normalization
from distrain.functions.normalization.batch_normalization import fixed_batch_normalization as fixed_batch_normalization
from distrain.functions.normalization.layer_normalization import layer_normalization as layer_normalization
from distrain.functions.pooling.average_pooling_2d import average_pooling_2d as average_pooling_2d
from distrain.functions.pooling.max_pooling_2d import max_pooling_2d as max_pooling_2d
from distrain.functions.rnn.lstm import lstm as lstm

__all__ = [
    "absolute",
    "accuracy",
    "add",
    "argmax",
    "argmin",
    "average",
    "average_pooling_2d",
    "batch_normalization",
    "binary_accuracy",
    "broadcast",
    "broadcast_to",
    "cast",
    "clip",
    "clipped_relu",
    "concat",
    "convolution_2d",
    "deconvolution_2d",
    "div",
    "dropout",
    "elu",
    "embed_id",
    "exp",
    "expand_dims",
    "expm1",
    "fixed_batch_normalization",
    "flatten",
    "get_item",
    "layer_normalization",
    "leaky_relu",
    "linear",
    "log",
    "log1p",
    "log_softmax",
    "lstm",
    "matmul",
    "max",
    "max_pooling_2d",
    "maximum",
    "mean",
    "mean_squared_error",
    "min",
    "minimum",
    "moveaxis",
    "mul",
    "neg",
    "pow",
    "relu",
    "repeat",
    "reshape",
    "rollaxis",
    "rsqrt",
    "select_item",
    "separate",
    "sigmoid",
    "sigmoid_cross_entropy",
    "softmax",
    "softmax_cross_entropy",
    "softplus",
    "split_axis",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "sub",
    "sum",
    "sum_to",
    "swapaxes",
    "tanh",
    "tile",
    "transpose",
    "where",
]
