"""The fully connected layer."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.links as L
from distrain.errors import InvalidType
from distrain.gradient_check import check_backward

random = np.random.RandomState(0)
X = random.randn(4, 3)


def affine(x, link):
    return x @ link.W.array.T + link.b.array


@pytest.mark.parametrize("n_in", [3, None])
def test_gradients(n_in):
    with distrain.using_config("dtype", np.float64):
        link = L.Linear(n_in, 2, initial_bias=distrain.initializers.Normal())
        y = link(X)
        assert y.dtype == np.float64
        np.testing.assert_allclose(y.array, affine(X, link), rtol=1e-12)
        check_backward(link, X, random.randn(4, 2), params=list(link.params()))


@pytest.mark.parametrize("n_in", [3, None])
def test_gradients_without_bias(n_in):
    with distrain.using_config("dtype", np.float64):
        link = L.Linear(n_in, 2, nobias=True)
        np.testing.assert_allclose(link(X).array, X @ link.W.array.T, rtol=1e-12)
        check_backward(link, X, random.randn(4, 2), params=link.W)
    assert link.b is None
    assert [path for path, _ in link.namedparams()] == ["/W"]


def test_the_first_input_gives_the_size():
    link = L.Linear(None, 2)
    assert not link.W.is_initialized
    assert link.b.shape == (2,)
    link(X.astype("f"))
    assert link.in_size == 3
    assert link.W.shape == (2, 3)
    assert link.W.dtype == np.float32
    with pytest.raises(InvalidType):
        link(np.zeros((4, 5), "f"))


def test_a_refused_first_input_gives_no_size():
    link = L.Linear(None, 2)
    with pytest.raises(InvalidType):
        link(np.ones(3, "f"))
    assert link(X.astype("f")).shape == (4, 2)


def test_one_size_is_the_output():
    link = L.Linear(2)
    assert link(X.astype("f")).shape == (4, 2)
    assert link.W.shape == (2, 3)


@pytest.mark.parametrize("n_in", [12, None])
def test_further_axes_are_joined(n_in):
    x = random.randn(2, 3, 4).astype("f")
    link = L.Linear(n_in, 5)
    np.testing.assert_allclose(link(x).array, affine(x.reshape(2, 12), link), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_in", [4, None])
def test_batch_axes_stay(n_in):
    x = random.randn(2, 3, 4).astype("f")
    link = L.Linear(n_in, 5)
    y = link(x, n_batch_axes=2)
    assert y.shape == (2, 3, 5)
    assert link.W.shape == (5, 4)
    np.testing.assert_allclose(y.array, affine(x, link), rtol=1e-5, atol=1e-6)


def test_initializers():
    W, b = random.randn(2, 3).astype("f"), random.randn(2).astype("f")
    link = L.Linear(3, 2, initialW=W, initial_bias=b)
    np.testing.assert_array_equal(link.W.array, W)
    np.testing.assert_array_equal(link.b.array, b)
    assert L.Linear(3, 2, initialW=0.5, initial_bias=3).W.array.tolist() == [[0.5] * 3] * 2
    default = L.Linear(400, 300)
    assert abs(default.W.array.std() - 0.05) < 0.002  # LeCun: 1 / sqrt(in_size)
    assert not default.b.array.any()


def test_cleargrads_and_accumulation():
    link = L.Linear(3, 2)
    x = X.astype("f")
    distrain.functions.sum(link(x)).backward()
    once = link.W.grad.copy()
    distrain.functions.sum(link(x)).backward()
    np.testing.assert_allclose(link.W.grad, 2 * once, rtol=1e-5)
    np.testing.assert_allclose(link.b.grad, [8, 8])
    link.cleargrads()
    assert link.W.grad is None
    assert link.b.grad is None
