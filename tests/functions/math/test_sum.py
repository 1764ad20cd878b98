from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw

AXES = [None, 0, 1, -1, (0, 2), (-1, 0), ()]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize(("func", "expected"), [(F.sum, np.sum), (F.mean, np.mean)])
def test_values_and_derivatives(func, expected, axis, keepdims):
    check_function(
        lambda x: func(x, axis=axis, keepdims=keepdims),
        draw((2, 3, 4)),
        lambda x: expected(x, axis=axis, keepdims=keepdims),
        tolerance=2e-2,
    )


@pytest.mark.parametrize("func", [F.sum, F.mean])
def test_of_a_scalar(func):
    check_function(func, draw(()), lambda x: x)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("axis", "shape"), [(None, (2, 3)), (0, (2, 3)), (1, (3,)), (-2, (2,))])
def test_weighted_average(axis, shape, keepdims):
    x, w = draw((2, 3), shape)
    check_function(
        lambda x, w: F.average(x, axis, w, keepdims),
        [x, abs(w) + 0.2],
        lambda x, w: np.average(x, axis, w, keepdims=keepdims),
        tolerance=2e-2,
    )


def test_mean_is_average_and_the_mean_of_nothing_is_zero():
    assert F.mean is F.average
    check_empty(F.mean, (0, 3))
    check_empty(F.sum, (0, 3))
    check_empty(lambda x: F.mean(x, axis=0), (0, 3))
    assert F.mean(np.zeros((0, 3))).array == 0


def test_methods_of_variable():
    (x,) = draw((2, 3))
    np.testing.assert_allclose(Variable(x).sum(axis=0).array, x.sum(axis=0))
    np.testing.assert_allclose(Variable(x).mean(axis=1, keepdims=True).array, x.mean(axis=1, keepdims=True))


@pytest.mark.parametrize("func", [F.sum, F.mean])
def test_wrong_axes_are_refused(func):
    with pytest.raises(InvalidType, match=r"(?s)Argument: axis\nExpect: -2 … 1 for 2 axes\nActual: 2"):
        func(np.ones((2, 3)), axis=2)
    with pytest.raises(InvalidType, match="at most once"):
        func(np.ones((2, 3)), axis=(0, -2))


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(InvalidType, match=r"(?s)average .*Argument: weights.*shape \(3,\) with axis \(0,\)"):
        F.average(np.ones((2, 3)), 0, np.ones(3))
