"""One or more calls of every function of distrain.functions: what CPU and GPU must agree about."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import distrain.functions as F
from distrain import minibatch
from distrain.backend import get_array_module
from distrain.minibatch import Share
from tests.functions.cases import draw

Case = tuple[Callable[..., Any], list[Any]]


def real(*shapes: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> list[Any]:
    return [x.astype(np.float32) for x in draw(*shapes, low=low, high=high)]


def labels(*numbers: Any) -> Any:
    return np.array(numbers, np.int32)


def seated_dropout(x: Any) -> Any:
    """Dropout that draws the same numbers whenever it is called."""
    minibatch.announce(Share(3, 0, 4, 4))
    return F.dropout(x, 0.3)


def on_its_device(function: Callable[..., Any], *statistics: Any) -> Callable[..., Any]:
    """Hands fresh copies of arrays that are no Variables to a function, on the device of its first argument."""
    return lambda x, *args: function(x, *args, *[get_array_module(x).array(s) for s in statistics])


PAIR = real((3, 4), (3, 4))
MIXED = real((3, 4), (4,))
ROWS = real((4, 5))
POSITIVE = real((3, 4), low=0.1)
IMAGES = real((2, 4, 7, 6))
T = labels(0, 4, -1, 2)
BITS = np.array([[0, 1, -1, 1]] * 3, np.int32)
WEIGHTS = np.array([0.5, 1, 2, 1, 3], np.float32)
CHANNELS = real((4,), (4,))
VARIANCE = real((4,), low=0.5)
MEAN = real((4,))

CASES: dict[str, list[Case]] = {
    "absolute": [(F.absolute, PAIR[:1])],
    "accuracy": [(F.accuracy, [*ROWS, T]), (lambda y, t: F.accuracy(y, t, ignore_label=-1), [*ROWS, T])],
    "add": [(F.add, PAIR), (F.add, MIXED), (lambda x: F.add(x, 2), ROWS), (F.add, [*PAIR, POSITIVE[0]])],
    "argmax": [(F.argmax, ROWS), (lambda x: F.argmax(x, 1), ROWS)],
    "argmin": [(F.argmin, ROWS), (lambda x: F.argmin(x, 0), ROWS)],
    "average": [(F.average, ROWS), (lambda x, w: F.average(x, 1, w), [*ROWS, WEIGHTS])],
    "average_pooling_2d": [
        (lambda x: F.average_pooling_2d(x, 3, 2, 1), IMAGES),
        (lambda x: F.average_pooling_2d(x, 2), IMAGES),
    ],
    "batch_normalization": [
        (F.batch_normalization, [*IMAGES, *CHANNELS]),
        (
            on_its_device(
                lambda x, g, b, m, v: F.batch_normalization(x, g, b, running_mean=m, running_var=v), *MEAN, *VARIANCE
            ),
            [*MIXED[:1], *CHANNELS],
        ),
    ],
    "binary_accuracy": [(F.binary_accuracy, [PAIR[0], BITS])],
    "broadcast": [(F.broadcast, MIXED)],
    "broadcast_to": [(lambda x: F.broadcast_to(x, (2, 4)), MIXED[1:])],
    "cast": [(lambda x: F.cast(x, np.float64), ROWS), (lambda x: F.cast(x, np.float16), ROWS)],
    "clip": [(lambda x: F.clip(x, -0.5, 1), ROWS)],
    "clipped_relu": [(lambda x: F.clipped_relu(x, 1), ROWS)],
    "concat": [(lambda *xs: F.concat(xs), real((2, 3), (2, 1))), (lambda *xs: F.concat(xs, axis=0), PAIR)],
    "convolution_2d": [
        (F.convolution_2d, [*IMAGES, *real((6, 4, 3, 3), (6,))]),
        (lambda x, W: F.convolution_2d(x, W, stride=2, pad=(1, 2)), [*IMAGES, *real((6, 4, 3, 2))]),
        (lambda x, W: F.convolution_2d(x, W, pad=2, dilate=2, groups=2), [*IMAGES, *real((6, 2, 3, 3))]),
    ],
    "deconvolution_2d": [
        (F.deconvolution_2d, [*IMAGES, *real((4, 3, 3, 3), (3,))]),
        (lambda x, W: F.deconvolution_2d(x, W, stride=2, pad=1, groups=2), [*IMAGES, *real((4, 3, 3, 2))]),
    ],
    "div": [(F.div, [PAIR[0], *POSITIVE]), (lambda x: F.div(1, x), POSITIVE), (lambda x: F.div(x, 3), ROWS)],
    "dropout": [(seated_dropout, ROWS)],
    "elu": [(F.elu, ROWS)],
    "embed_id": [
        (lambda W, x: F.embed_id(x, W), [*ROWS, labels([0, 3], [1, 3])]),
        (lambda W, x: F.embed_id(x, W, ignore_label=-1), [*ROWS, labels(-1, 3, 3)]),
    ],
    "exp": [(F.exp, ROWS)],
    "expand_dims": [(lambda x: F.expand_dims(x, 1), ROWS)],
    "expm1": [(F.expm1, ROWS)],
    "fixed_batch_normalization": [(F.fixed_batch_normalization, [*MIXED[:1], *CHANNELS, *MEAN, *VARIANCE])],
    "flatten": [(F.flatten, ROWS)],
    "get_item": [
        (lambda x: F.get_item(x, (slice(None, None, -1), 2)), ROWS),
        (lambda x: F.get_item(x, [1, 1, 3]), ROWS),
        (lambda x, i: F.get_item(x, i), [*ROWS, labels(2, 0, 2)]),
    ],
    "layer_normalization": [(F.layer_normalization, [*MIXED[:1], *CHANNELS])],
    "leaky_relu": [(F.leaky_relu, ROWS)],
    "linear": [(F.linear, real((3, 4), (2, 4), (2,))), (F.linear, real((3, 2, 2), (2, 4)))],
    "log": [(F.log, POSITIVE)],
    "log1p": [(F.log1p, POSITIVE)],
    "log_softmax": [(F.log_softmax, ROWS)],
    "lstm": [(F.lstm, real((4, 2), (4, 8))), (F.lstm, real((4, 2), (3, 8)))],
    "matmul": [
        (F.matmul, real((3, 4), (4, 2))),
        (lambda a, b: F.matmul(a, b, transa=True), real((2, 4, 3), (2, 4, 2))),
    ],
    "max": [(F.max, ROWS), (lambda x: F.max(x, axis=1, keepdims=True), ROWS)],
    "max_pooling_2d": [
        (lambda x: F.max_pooling_2d(x, 2), IMAGES),
        (lambda x: F.max_pooling_2d(x, 3, 2, 1), IMAGES),
        (lambda x: F.max_pooling_2d(x, 3, 2, 1, cover_all=False), IMAGES),
    ],
    "maximum": [(F.maximum, PAIR), (F.maximum, MIXED)],
    "mean": [(F.mean, ROWS), (lambda x: F.mean(x, axis=(0, 2)), IMAGES)],
    "mean_squared_error": [(F.mean_squared_error, PAIR)],
    "min": [(F.min, ROWS), (lambda x: F.min(x, axis=0), ROWS)],
    "minimum": [(F.minimum, PAIR)],
    "moveaxis": [(lambda x: F.moveaxis(x, 1, 3), IMAGES)],
    "mul": [(F.mul, PAIR), (F.mul, MIXED), (lambda x: F.mul(x, 0.3), ROWS)],
    "neg": [(F.neg, ROWS)],
    "pow": [(F.pow, [*POSITIVE, PAIR[0]]), (lambda x: F.pow(x, 3), ROWS), (lambda x: F.pow(2, x), ROWS)],
    "relu": [(F.relu, ROWS)],
    "repeat": [(lambda x: F.repeat(x, 2, axis=1), ROWS)],
    "reshape": [(lambda x: F.reshape(x, (2, -1)), ROWS)],
    "rollaxis": [(lambda x: F.rollaxis(x, 2), IMAGES)],
    "rsqrt": [(F.rsqrt, POSITIVE)],
    "select_item": [(F.select_item, [*ROWS, labels(0, 4, 1, 2)])],
    "separate": [(F.separate, ROWS)],
    "sigmoid": [(F.sigmoid, ROWS)],
    "sigmoid_cross_entropy": [
        (F.sigmoid_cross_entropy, [PAIR[0], BITS]),
        (lambda x, t: F.sigmoid_cross_entropy(x, t, reduce="no"), [PAIR[0], BITS]),
    ],
    "softmax": [(F.softmax, ROWS), (F.softmax, IMAGES)],
    "softmax_cross_entropy": [
        (F.softmax_cross_entropy, [*ROWS, T]),
        (lambda x, t: F.softmax_cross_entropy(x, t, normalize=False, reduce="no"), [*ROWS, T]),
        (on_its_device(lambda x, t, w: F.softmax_cross_entropy(x, t, class_weight=w), WEIGHTS), [*ROWS, T]),
        (F.softmax_cross_entropy, [*real((2, 3, 2)), labels([0, 2], [1, 1])]),
        (F.softmax_cross_entropy, [np.zeros((0, 3), np.float32), labels()]),
    ],
    "softplus": [(F.softplus, ROWS)],
    "split_axis": [(lambda x: F.split_axis(x, 2, 0), ROWS), (lambda x: F.split_axis(x, [1, 3], 1), ROWS)],
    "sqrt": [(F.sqrt, POSITIVE)],
    "square": [(F.square, ROWS)],
    "squeeze": [(F.squeeze, real((3, 1, 2)))],
    "stack": [(lambda *xs: F.stack(xs, axis=1), PAIR)],
    "sub": [(F.sub, PAIR), (F.sub, MIXED), (lambda x: F.sub(1, x), ROWS)],
    "sum": [(F.sum, ROWS), (lambda x: F.sum(x, axis=(0, 2), keepdims=True), IMAGES)],
    "sum_to": [(lambda x: F.sum_to(x, (1, 5)), ROWS)],
    "swapaxes": [(lambda x: F.swapaxes(x, 1, 2), IMAGES)],
    "tanh": [(F.tanh, ROWS)],
    "tile": [(lambda x: F.tile(x, (2, 1)), ROWS)],
    "transpose": [(F.transpose, ROWS), (lambda x: F.transpose(x, (2, 0, 3, 1)), IMAGES)],
    "where": [(lambda x, y, c: F.where(c, x, y), [*PAIR, BITS == 1])],
}
