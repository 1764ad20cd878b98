from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.gradient_check import check_backward, check_double_backward


def test_values_and_gradient_have_their_own_dtypes():
    x = Variable(np.array([1.5, 2.5], np.float32))
    y = F.cast(x, "float16")
    assert y.dtype == np.float16
    F.sum(y).backward()
    assert x.grad.dtype == np.float32
    assert x.astype(np.float64).dtype == np.float64


def test_derivatives():
    x, gy, ggx = (np.random.default_rng(i).normal(size=3).astype(np.float32) for i in range(3))
    func = lambda x: F.cast(x, np.float64) ** 2  # noqa: E731
    check_backward(func, x, gy.astype(np.float64), eps=1e-2, atol=1e-3)
    check_double_backward(func, x, gy.astype(np.float64), ggx, eps=1e-2, atol=1e-2)


@pytest.mark.parametrize("dtype", [np.int32, bool])
def test_whole_numbers_end_the_graph(dtype):
    y = F.cast(Variable(np.ones((0, 2), np.float32)), dtype)
    assert y.dtype == dtype
    assert not y.requires_grad


def test_the_same_dtype_is_the_same_variable():
    x = Variable(np.ones(3))
    assert F.cast(x, "d") is x
