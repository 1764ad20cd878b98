"""Normalization of each sample."""

from __future__ import annotations

import numpy as np
import pytest

import distrain
import distrain.links as L
from distrain.errors import InvalidType
from distrain.gradient_check import check_backward
from distrain.initializers import Normal

random = np.random.RandomState(0)
X = random.randn(4, 5) * 3 + 1


def normalized(x, eps):
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + eps)


@pytest.mark.parametrize("size", [5, None])
def test_values_and_gradients(size):
    with distrain.using_config("dtype", np.float64):
        link = L.LayerNormalization(size, initial_gamma=Normal(), initial_beta=Normal())
        y = link(X)
        assert y.dtype == np.float64
        expected = normalized(X, 1e-6) * link.gamma.array + link.beta.array
        np.testing.assert_allclose(y.array, expected, rtol=1e-9, atol=1e-12)
        check_backward(link, X, random.randn(4, 5), params=list(link.params()))


@pytest.mark.parametrize("size", [5, None])
def test_starts_as_plain_normalization(size):
    link = L.LayerNormalization(size, eps=0.5)
    x = X.astype("f")
    np.testing.assert_allclose(link(x).array, normalized(x, 0.5), rtol=1e-4, atol=1e-6)
    assert link.gamma.array.tolist() == [1] * 5
    assert link.beta.array.tolist() == [0] * 5
    assert link.gamma.dtype == link.beta.dtype == np.float32


def test_samples_do_not_see_each_other():
    link = L.LayerNormalization(5)
    x = X.astype("f")
    one_by_one = np.concatenate([link(x[i : i + 1]).array for i in range(4)])
    np.testing.assert_allclose(link(x).array, one_by_one, rtol=1e-6)
    with distrain.using_config("train", False):
        np.testing.assert_allclose(link(x).array, one_by_one, rtol=1e-6)


def test_another_size():
    lazy = L.LayerNormalization()
    lazy(X.astype("f"))
    for link in (L.LayerNormalization(5), lazy):
        with pytest.raises(InvalidType):
            link(np.zeros((4, 6), "f"))


@pytest.mark.parametrize(
    "size",
    [5, None],
)
def test_too_few_axes(size):
    model = distrain.Chain(norm=L.LayerNormalization(size))
    with pytest.raises(InvalidType, match="In link: /norm$"):
        model.norm(np.ones(5, "f"))


def test_initial_arrays():
    gamma, beta = random.randn(2, 5).astype("f")
    link = L.LayerNormalization(5, initial_gamma=gamma, initial_beta=beta)
    np.testing.assert_array_equal(link.gamma.array, gamma)
    np.testing.assert_array_equal(link.beta.array, beta)
