from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw

CASES = [
    (F.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    (F.tanh, np.tanh),
    (F.softplus, lambda x: np.log1p(np.exp(x))),
    (lambda x: F.softplus(x, 2.0), lambda x: np.log1p(np.exp(2 * x)) / 2),
]


@pytest.mark.parametrize("shape", [(3, 4), (), (2, 1, 3)])
@pytest.mark.parametrize(("func", "expected"), CASES)
def test_values_and_derivatives(func, expected, shape):
    check_function(func, draw(shape), expected)
    check_empty(func, (0, 3))


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_large_numbers_do_not_overflow(dtype):
    x = np.array([-2e4, 0, 2e4], dtype)
    np.testing.assert_array_equal(F.sigmoid(x).array, [0, 0.5, 1])
    np.testing.assert_allclose(F.softplus(x).array, [0, np.log(2), 2e4], rtol=1e-3)


@pytest.mark.parametrize("func", [F.sigmoid, F.tanh, F.softplus])
def test_integers_are_refused(func):
    with pytest.raises(
        InvalidType, match=rf"(?s)in: {func.__name__} .*Argument: x.*floating.*Actual: shape \(3,\), int"
    ):
        func(np.arange(3))


def test_beta_zero_is_refused():
    with pytest.raises(InvalidType, match=r"(?s)softplus .*Argument: beta"):
        F.softplus(np.ones(3), 0)
