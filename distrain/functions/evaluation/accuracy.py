"""Accuracy: how many answers are right. Numbers to look at, without a gradient and without a graph."""

from __future__ import annotations

import numpy as np

from distrain.autograd import Variable, as_array
from distrain.autograd.type_check import describe, expect_float, expect_integer, expect_same, refuse
from distrain.backend import Array, get_array_module
from distrain.config import config


def accuracy(y: Variable | Array, t: Variable | Array, ignore_label: int | None = None) -> Variable:
    """Part of the samples whose largest score is at their label.

    Args:
        y: scores, (N, K) or (N, K, d1, …), floating point.
        t: labels, (N,) or (N, d1, …), integers.
        ignore_label: samples with this label do not count.

    Returns:
        A scalar of y's dtype without a gradient; 0 if no sample counts.

    Raises:
        InvalidType: shapes or dtypes do not fit.
    """
    scores, labels = as_array(y), as_array(t)
    if config.type_check:
        if scores.dtype.kind != "f":
            expect_float("accuracy", "y", scores)
        if labels.dtype.kind not in "iu":
            expect_integer("accuracy", "t", labels)
        if scores.ndim < 2 or scores.shape[1] == 0:
            raise refuse("accuracy", "y", "shape (N, K, …) with one class or more", describe(scores))
        want = scores.shape[:1] + scores.shape[2:]
        if labels.shape != want:
            raise refuse("accuracy", "t", f"shape {want} for y of shape {scores.shape}", describe(labels))
    right = scores.argmax(1) == labels
    counted = None if ignore_label is None else labels != ignore_label
    return _ratio(right, counted, scores.dtype)


def binary_accuracy(y: Variable | Array, t: Variable | Array) -> Variable:
    """Part of the logits whose sign agrees with their label.

    Args:
        y: logits, any shape, floating point; 0 and more is a yes.
        t: labels, shape of y, integers: 0, 1, or -1 for those that do not count.

    Returns:
        A scalar of y's dtype without a gradient; 0 if no label counts.

    Raises:
        InvalidType: shapes or dtypes do not fit.
    """
    scores, labels = as_array(y), as_array(t)
    if config.type_check:
        expect_float("binary_accuracy", "y", scores)
        expect_integer("binary_accuracy", "t", labels)
        expect_same("binary_accuracy", "t", labels, scores, "y")
    return _ratio((scores >= 0) == labels, labels != -1, scores.dtype)


def _ratio(right: Array, counted: Array | None, dtype: np.dtype[np.floating]) -> Variable:
    if counted is None and type(right) is np.ndarray:
        return Variable(np.asarray(np.count_nonzero(right) / (right.size or 1), dtype), requires_grad=False)
    xp = get_array_module(right)
    if counted is None:
        ratio = xp.count_nonzero(right) / max(1, right.size)
    else:
        total = xp.count_nonzero(counted)
        ratio = xp.count_nonzero(right & counted) / (max(1, total) if xp is np else total.clip(1, None))
    return Variable(xp.asarray(ratio, dtype), requires_grad=False)
