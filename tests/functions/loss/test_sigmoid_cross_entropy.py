from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import ArgumentError, InvalidType
from distrain.gradient_check import check_backward, check_double_backward
from tests.functions.cases import draw


def expected(x, t, normalize, reduce):
    s = 1 / (1 + np.exp(-x))
    losses = np.where(t == -1, 0, -np.log(np.where(t == 1, s, 1 - s)))
    if reduce == "no":
        return losses
    return losses.sum() / max(1, (t != -1).sum() if normalize else len(t))


@pytest.mark.parametrize("reduce", ["mean", "no"])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("t", [[[0, 1, 1], [1, 0, 0]], [[0, -1, 1], [-1, 0, 0]], [0, 1, -1, 1]])
def test_values_and_derivatives(t, normalize, reduce):
    t = np.array(t)
    (x,) = draw(t.shape)
    func = lambda x: F.sigmoid_cross_entropy(x, t, normalize, reduce)  # noqa: E731
    want = expected(x, t, normalize, reduce)
    np.testing.assert_allclose(func(x).array, want, rtol=1e-7)
    for dtype in (np.float16, np.float32):
        variable = Variable(x.astype(dtype))
        y = func(variable)
        np.testing.assert_allclose(y.array, want, rtol=5e-3, atol=5e-3)
        y.grad = np.ones_like(y.array)
        y.backward()
        assert (y.dtype, y.shape, variable.grad.dtype) == (dtype, want.shape, dtype)
    (gy,) = draw(want.shape, seed=1)
    check_backward(func, x, gy, dtype=np.float64)
    check_double_backward(func, x, gy, draw(x.shape, seed=2), dtype=np.float64)


def test_large_logits():
    loss = F.sigmoid_cross_entropy(np.array([1e4, -1e4, 1e4], np.float32), np.array([1, 0, 0]), reduce="no")
    np.testing.assert_array_equal(loss.array, [0, 0, 1e4])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("t", [np.zeros((0, 3), int), np.full((2, 3), -1)])
def test_nothing_to_learn_from_has_loss_zero(t, normalize):
    x = Variable(np.ones(t.shape, np.float32))
    loss = F.sigmoid_cross_entropy(x, t, normalize)
    loss.backward()
    assert loss.array == 0
    np.testing.assert_array_equal(x.grad, np.zeros(t.shape))


def test_wrong_arguments_are_refused():
    x, t = np.ones((2, 3)), np.zeros((2, 3), int)
    with pytest.raises(ArgumentError, match=r"the label at \(1, 2\) is 2; labels are 0, 1, and -1"):
        F.sigmoid_cross_entropy(x, np.array([[0, 1, 0], [0, 0, 2]]))
    with pytest.raises(InvalidType, match=r"(?s)sigmoid_cross_entropy .*Argument: t.*shape of x, \(2, 3\).*\(2,\)"):
        F.sigmoid_cross_entropy(x, t[:, 0])
    with pytest.raises(InvalidType, match=r"(?s)sigmoid_cross_entropy .*Argument: t.*integer.*float64"):
        F.sigmoid_cross_entropy(x, x)
    with pytest.raises(InvalidType, match=r"(?s)sigmoid_cross_entropy .*Argument: x.*floating.*int64"):
        F.sigmoid_cross_entropy(t, t)
    with pytest.raises(ArgumentError, match="'mean' or 'no', not 'sum'"):
        F.sigmoid_cross_entropy(x, t, reduce="sum")
