from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw

CASES = [
    (F.relu, lambda x: np.maximum(x, 0)),
    (lambda x: F.clipped_relu(x, 1.0), lambda x: np.clip(x, 0, 1)),
    (F.leaky_relu, lambda x: np.where(x > 0, x, 0.2 * x)),
    (lambda x: F.leaky_relu(x, 1.5), lambda x: np.where(x > 0, x, 1.5 * x)),
    (F.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
    (lambda x: F.elu(x, 0.5), lambda x: np.where(x > 0, x, 0.5 * np.expm1(x))),
]


@pytest.mark.parametrize("shape", [(3, 4), (), (2, 1, 3)])
@pytest.mark.parametrize(("func", "expected"), CASES)
def test_values_and_derivatives(func, expected, shape):
    check_function(func, draw(shape), expected)
    check_empty(func, (0, 3))


def test_large_numbers_do_not_overflow():
    x = np.array([-1e4, 1e4], np.float32)
    np.testing.assert_array_equal(F.elu(x).array, [-1, 1e4])


def test_relu_has_no_gradient_at_zero():
    x = Variable(np.array([-1.0, 0.0, 1.0]))
    F.sum(F.relu(x)).backward()
    np.testing.assert_array_equal(x.grad, [0, 0, 1])


@pytest.mark.parametrize("func", [F.relu, F.clipped_relu, F.leaky_relu, F.elu])
def test_integers_are_refused(func):
    with pytest.raises(
        InvalidType, match=rf"(?s)in: {func.__name__} .*Argument: x.*floating.*Actual: shape \(3,\), int"
    ):
        func(np.arange(3))


def test_wrong_settings_are_refused():
    with pytest.raises(InvalidType, match=r"(?s)elu .*Argument: alpha\nExpect: 0 or more\nActual: -1"):
        F.elu(np.ones(3), -1)
    with pytest.raises(InvalidType, match=r"(?s)clipped_relu .*Argument: z\nExpect: 0 or more\nActual: -1"):
        F.clipped_relu(np.ones(3), -1)
