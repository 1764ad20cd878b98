from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType

SCORES = np.array([[3.0, 1, 2], [0, 5, 1], [1, 2, 9], [4, 0, 0]])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(
    ("labels", "ignore_label", "want"),
    [
        ([0, 1, 2, 0], None, 1),
        ([0, 1, 0, 1], None, 0.5),
        ([0, -1, 1, -1], -1, 0.5),
        ([1, 1, 2, 1], 1, 1),
        ([9] * 4, 9, 0),
    ],
)
def test_accuracy(labels, ignore_label, want, dtype):
    y = F.accuracy(Variable(SCORES.astype(dtype)), np.array(labels, np.int32), ignore_label)
    assert y.array == want
    assert (y.dtype, y.shape, y.requires_grad, y.creator) == (dtype, (), False, None)


def test_accuracy_with_more_axes():
    y = np.stack([SCORES, SCORES[::-1]], axis=2)
    t = np.stack([[0, 1, 2, 0], [0, 0, 0, 0]], axis=1)
    assert F.accuracy(y, t).array == 6 / 8
    assert F.accuracy(y[:, :, ::-1], t).array == np.mean(y[:, :, ::-1].argmax(axis=1) == t)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("labels", "want"), [([1, 0, 1], 1), ([1, 1, 0], 1 / 3), ([-1, 0, 0], 0.5), ([-1, -1, -1], 0)])
def test_binary_accuracy(labels, want, dtype):
    y = F.binary_accuracy(Variable(np.array([0.5, -0.5, 0.0], dtype)), Variable(np.array(labels)))
    assert y.array == dtype(want)
    assert (y.dtype, y.shape, y.requires_grad, y.creator) == (dtype, (), False, None)


def test_empty_batches_give_zero():
    assert F.accuracy(np.zeros((0, 3)), np.zeros(0, int)).array == 0
    assert F.accuracy(np.zeros((0, 3)), np.zeros(0, int), -1).array == 0
    assert F.binary_accuracy(np.zeros((0, 3)), np.zeros((0, 3), int)).array == 0


def test_wrong_arguments_are_refused():
    t = np.zeros(4, int)
    for func in (F.accuracy, F.binary_accuracy):
        with pytest.raises(InvalidType, match=rf"(?s)in: {func.__name__} .*Argument: t.*integer.*float64"):
            func(SCORES, SCORES[:, 0])
        with pytest.raises(InvalidType, match=rf"(?s)in: {func.__name__} .*Argument: y.*floating.*int64"):
            func(SCORES.astype(int), t)
        with pytest.raises(InvalidType, match=rf"(?s)in: {func.__name__} .*Argument: t.*\(3,\)"):
            func(SCORES, t[:3])
    with pytest.raises(InvalidType, match=r"(?s)accuracy .*Argument: y\nExpect: shape \(N, K, …\)"):
        F.accuracy(SCORES[0], t)
