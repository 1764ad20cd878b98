"""Softmax cross entropy, the loss of classification."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from distrain.autograd import Primitive, Variable
from distrain.autograd.type_check import describe, expect_float, expect_integer, refuse
from distrain.backend import Array, get_array_module
from distrain.config import config
from distrain.errors import ArgumentError
from distrain.functions.activation.softmax import Softmax
from distrain.functions.constants import host_ones, host_row_starts
from distrain.functions.math.basic import mul

_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}

_SHORT = 1024


class SoftmaxCrossEntropy(Primitive):
    """See `softmax_cross_entropy`.

    Inside, the logits are rows (M, K): the class axis is moved to the end and the others are one.
    """

    _keep_inputs = (0, 1)
    _scores: tuple[Array, Array] | None = None

    def __init__(
        self, normalize: bool, cache_score: bool, class_weight: Array | None, ignore_label: int | None, reduce: str
    ) -> None:
        self.normalize = normalize
        self.cache_score = cache_score
        self.class_weight = class_weight
        self.ignore_label = ignore_label
        self.mean = reduce == "mean"

    def check_type_forward(self, in_types: tuple[Array, ...]) -> None:
        x, t = in_types
        if x.dtype.kind != "f":
            expect_float("softmax_cross_entropy", "x", x)
        if t.dtype.kind not in "iu":
            expect_integer("softmax_cross_entropy", "t", t)
        if x.ndim < 2 or x.shape[1] == 0:
            raise refuse("softmax_cross_entropy", "x", "shape (N, K, …) with one class or more", describe(x))
        if t.shape != x.shape[:1] + x.shape[2:]:
            raise refuse(
                "softmax_cross_entropy", "t", f"shape {x.shape[:1] + x.shape[2:]} for x of shape {x.shape}", describe(t)
            )
        weight = self.class_weight
        if weight is not None and (weight.shape != x.shape[1:2] or weight.dtype.kind != "f"):
            raise refuse(
                "softmax_cross_entropy", "class_weight", f"shape {x.shape[1:2]}, floating point", describe(weight)
            )

    def forward(self, inputs: tuple[Array, ...]) -> tuple[Array, ...]:
        x, t = inputs
        xp = get_array_module(x)
        self._find_ignored(x, t, xp)
        exps, sums, picked = self._score(x, t, xp)
        if self.cache_score:
            self._scores = (exps, sums)
        losses = xp.log(sums)
        losses -= picked
        weight = self._row_weights(t, xp, losses.dtype)
        if weight is not None:
            losses *= weight
        if self.mean:
            return (xp.asarray(_total(losses, xp) / self._divisor(x), x.dtype),)
        return (losses.astype(x.dtype, copy=False).reshape(t.shape),)

    def backward(self, target_input_indexes: tuple[int, ...], grad_outputs: tuple[Any, ...]) -> Sequence[Any]:
        (gy,) = grad_outputs
        if isinstance(gy, Variable):
            x, t = self.get_retained_inputs()
            return (self._gradient_in_graph(x, t.array, gy), None)[: len(target_input_indexes)]
        x, t = self._input_data
        xp = get_array_module(x)
        exps, sums = self._scores if self._scores is not None else self._score(x, t, xp)[:2]
        if self.mean:  # a Python number is faster than an array without axes, but would wait for a GPU
            scale = float(gy) / self._divisor(x) if xp is np else (gy / self._divisor(x)).astype(sums.dtype)
        else:
            scale = gy.reshape(-1).astype(sums.dtype, copy=False)
        weight = self._row_weights(t, xp, sums.dtype)
        if weight is not None:
            scale = scale * weight
        gx = exps * (scale / sums)[:, None]
        gx.reshape(-1)[self._places] -= scale
        return (_from_rows(gx, x.shape).astype(x.dtype, copy=False), None)[: len(target_input_indexes)]

    def _find_ignored(self, x: Array, t: Array, xp: Any) -> None:
        """Checks the labels; sets the mask of the rows that count (None: all) and the place of each label's logit."""
        classes = x.shape[1]
        labels = t.reshape(-1)
        self._valid: Array | None = None
        if not labels.size or (
            xp is np
            and not 0 <= (-1 if self.ignore_label is None else self.ignore_label) < classes
            # Read as unsigned, negative labels are large: one look finds both kinds of wrong ones.
            and np.maximum.reduce(labels.view(_UNSIGNED[labels.itemsize])) < classes
        ):
            self._places = labels + _row_starts(labels.size, classes, xp)
            return
        inside = (labels >= 0) & (labels < classes)
        counted = xp.ones(labels.shape, bool) if self.ignore_label is None else labels != self.ignore_label
        if xp is np or config.debug:  # on a GPU the check would wait for the device
            wrong = counted & ~inside
            if wrong.any():
                _refuse_label(t, int(wrong.argmax()), int(wrong.sum()), classes, self.ignore_label)
        self._valid = counted
        self._places = xp.where(counted & inside, labels, 0) + xp.arange(0, labels.size * classes, classes)

    def _score(self, x: Array, t: Array, xp: Any) -> tuple[Array, Array, Array]:
        """Exponentials of the shifted logits (M, K), their sums (M,), and the shifted logit of each label (M,)."""
        rows = _as_rows(x)
        if not rows.flags.c_contiguous:
            rows = xp.ascontiguousarray(rows)  # so that the flat views below are views
        if rows.dtype.char == "e":  # float16; sums of exponentials need more digits
            rows = rows.astype(np.float32)
        classes = rows.shape[1]
        # NumPy's max and sum over a short last axis take two to four times as long as argmax and a product with ones.
        largest = rows.reshape(-1).take(rows.argmax(1) + _row_starts(len(rows), classes, xp))
        shifted = rows - largest[:, None]
        picked = shifted.reshape(-1).take(self._places)
        xp.exp(shifted, shifted)
        return shifted, shifted.dot(_ones(classes, shifted.dtype, xp)), picked

    def _row_weights(self, t: Array, xp: Any, dtype: Any) -> Array | None:
        if self.class_weight is None:
            return None if self._valid is None else self._valid.astype(dtype)
        classes = self.class_weight.shape[0]
        weight = self.class_weight.astype(dtype).take(self._places % classes)
        return weight if self._valid is None else weight * self._valid

    def _divisor(self, x: Array) -> Any:
        if not self.normalize:
            return max(1, x.shape[0])
        if self._valid is None:
            return max(1, self._places.size)
        if isinstance(self._valid, np.ndarray):
            return max(1, int(np.count_nonzero(self._valid)))
        return self._valid.sum().clip(1, None).astype(np.float32)  # stays on the GPU

    def _gradient_in_graph(self, x: Variable, t: Array, gy: Variable) -> Variable:
        """The gradient by functions that can be differentiated again."""
        xp = get_array_module(t)
        one_hot = xp.zeros((self._places.size, x.shape[1]), x.dtype)
        one_hot.reshape(-1)[self._places] = 1
        weight = self._row_weights(t, xp, x.dtype)
        column = (t.shape[0], 1, *t.shape[1:])
        factor: Any = xp.ones(column, x.dtype) if weight is None else weight.reshape(column)
        scale = gy / float(self._divisor(x)) if self.mean else gy.reshape(column)
        return mul(Softmax(1).apply1(x) - _from_rows(one_hot, x.shape), scale * factor)


def _row_starts(rows: int, classes: int, xp: Any) -> Array:
    return host_row_starts(rows, classes) if xp is np else xp.arange(0, rows * classes, classes)


def _ones(count: int, dtype: Any, xp: Any) -> Array:
    return host_ones(count, dtype) if xp is np else xp.ones(count, dtype)


def _total(losses: Array, xp: Any) -> Any:
    if xp is np and len(losses) <= _SHORT:
        return losses.dot(host_ones(len(losses), losses.dtype))  # three times as fast as NumPy's sum
    return losses.sum()


def _as_rows(x: Array) -> Array:
    """(N, K, d1, …) as (N * d1 * …, K)."""
    if x.ndim == 2:
        return x
    return x.reshape(*x.shape[:2], math.prod(x.shape[2:])).swapaxes(1, 2).reshape(-1, x.shape[1])


def _from_rows(rows: Array, shape: tuple[int, ...]) -> Array:
    """The opposite of `_as_rows`."""
    if len(shape) == 2:
        return rows
    return rows.reshape(shape[0], math.prod(shape[2:]), shape[1]).swapaxes(1, 2).reshape(shape)


def _refuse_label(t: Array, row: int, count: int, classes: int, ignore_label: int | None) -> None:
    place = np.unravel_index(row, t.shape)
    position = str(int(place[0])) if len(place) == 1 else str(tuple(int(i) for i in place))
    others = "" if count == 1 else f" ({count} labels of this batch are out of range)"
    ignored = "nothing is ignored" if ignore_label is None else f"label {ignore_label} is ignored"
    raise ArgumentError(
        f"softmax_cross_entropy: sample {position} of the batch has label {int(t[place])}, but there are {classes} "
        f"classes, so labels are 0 … {classes - 1}; {ignored}{others}. Check the labels of the dataset and the number "
        "of outputs of the model."
    )


def softmax_cross_entropy(
    x: Variable | Array,
    t: Variable | Array,
    normalize: bool = True,
    cache_score: bool = True,
    class_weight: Array | None = None,
    ignore_label: int | None = -1,
    reduce: str = "mean",
    enable_double_backprop: bool = False,
) -> Variable:
    """`-log softmax(x)[t]`, the cross entropy of integer labels.

    Args:
        x: logits, (N, K) or (N, K, d1, …), floating point.
        t: labels, (N,) or (N, d1, …), integers in 0 … K - 1 or `ignore_label`.
        normalize: divide the sum by the number of labels that are not ignored, else by N; by 1 at least.
        cache_score: keep the exponentials for the backward pass instead of computing them again.
        class_weight: (K,), factor on the loss of each class. Does not change what the sum is divided by.
        ignore_label: samples with this label have loss 0; None ignores none.
        reduce: 'mean' for a scalar, 'no' for the losses one by one in the shape of t.
        enable_double_backprop: for compatibility; the loss can always be differentiated twice.

    Raises:
        InvalidType: shapes or dtypes do not fit.
        ArgumentError: a label is out of range (not looked at on a GPU unless `config.debug` is set), or `reduce` is
            neither 'mean' nor 'no'.
    """
    if reduce not in ("mean", "no"):
        raise ArgumentError(f"softmax_cross_entropy: reduce must be 'mean' or 'no', not {reduce!r}")
    return SoftmaxCrossEntropy(normalize, cache_score, class_weight, ignore_label, reduce).apply((x, t))[0]
