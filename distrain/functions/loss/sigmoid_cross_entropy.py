"""Sigmoid cross entropy, the loss of yes-or-no answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable
from distrain.autograd.type_check import expect_float, expect_integer, expect_same
from distrain.backend import Array, get_array_module
from distrain.config import config
from distrain.errors import ArgumentError
from distrain.functions.activation.sigmoid import Sigmoid

_IGNORED = -1


class SigmoidCrossEntropy(Primitive):
    """See `sigmoid_cross_entropy`."""

    def __init__(self, normalize: bool, reduce: str) -> None:
        self.normalize = normalize
        self.mean = reduce == "mean"

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        x, t = in_types
        expect_float("sigmoid_cross_entropy", "x", x)
        expect_integer("sigmoid_cross_entropy", "t", t)
        expect_same("sigmoid_cross_entropy", "t", t, x, "x")
        # On a GPU the check would wait for the device.
        if t.size and (isinstance(t, np.ndarray) or config.debug) and not (t.min() >= _IGNORED and t.max() <= 1):
            place = tuple(int(i) for i in np.unravel_index(int(((t < _IGNORED) | (t > 1)).argmax()), t.shape))
            raise ArgumentError(
                f"sigmoid_cross_entropy: the label at {place} is {int(t[place])}; labels are 0, 1, "
                f"and {_IGNORED} for those to ignore"
            )

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, t = inputs
        xp = get_array_module(x)
        self.retain_inputs((0, 1))
        # -t log s(x) - (1 - t) log (1 - s(x)) without overflow
        losses = xp.maximum(x, 0) - x * t.astype(x.dtype) + xp.log1p(xp.exp(-abs(x)))
        losses *= t != _IGNORED
        if self.mean:
            return (xp.asarray(losses.sum() / self._divisor(t), x.dtype),)
        return (losses,)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        x, _ = self.kept_inputs(gy)
        t = self._input_data[1]
        if self.mean:
            gy = gy / self._divisor(t)
        gx = (Sigmoid().on(x) - t.astype(x.dtype)) * (t != _IGNORED) * gy
        return (gx.astype(x.dtype), None)[: len(target_input_indexes)]

    def _divisor(self, t: Array) -> Any:
        if not self.normalize:
            return max(1, t.shape[0] if t.ndim else 1)
        if isinstance(t, np.ndarray):
            return max(1, int(np.count_nonzero(t != _IGNORED)))
        return (t != _IGNORED).sum().clip(1, None).astype(np.float32)  # stays on the GPU


def sigmoid_cross_entropy(
    x: Variable | Array, t: Variable | Array, normalize: bool = True, reduce: str = "mean"
) -> Variable:
    """`-t * log(sigmoid(x)) - (1 - t) * log(1 - sigmoid(x))`.

    Args:
        x: logits, any shape, floating point.
        t: labels, shape of x, integers: 0, 1, or -1 for those to ignore.
        normalize: divide the sum by the number of labels that are not ignored, else by the length of axis 0; by 1 at
            least.
        reduce: 'mean' for a scalar, 'no' for the losses one by one.

    Raises:
        InvalidType: shapes or dtypes do not fit.
        ArgumentError: a label is out of range (not looked at on a GPU unless `config.debug` is set), or `reduce` is
            neither 'mean' nor 'no'.
    """
    if reduce not in ("mean", "no"):
        raise ArgumentError(f"sigmoid_cross_entropy: reduce must be 'mean' or 'no', not {reduce!r}")
    return SigmoidCrossEntropy(normalize, reduce).apply((x, t))[0]
