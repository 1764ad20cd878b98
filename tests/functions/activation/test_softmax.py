from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw


def softmax(x, axis):
    e = np.exp(x)
    return e / e.sum(axis=axis, keepdims=True)


@pytest.mark.parametrize(("shape", "axis"), [((3, 4), 1), ((3, 4), 0), ((2, 3, 4), 1), ((2, 3, 4), -1), ((4,), 0)])
def test_values_and_derivatives(shape, axis):
    check_function(lambda x: F.softmax(x, axis), draw(shape), lambda x: softmax(x, axis))
    check_function(lambda x: F.log_softmax(x, axis), draw(shape), lambda x: np.log(softmax(x, axis)))


def test_the_axis_is_1_unless_named():
    (x,) = draw((2, 3, 4))
    np.testing.assert_allclose(F.softmax(x).array.sum(axis=1), np.ones((2, 4)))
    np.testing.assert_allclose(F.log_softmax(x).array, np.log(softmax(x, 1)))


def test_large_numbers():
    x = np.array([[1000, 0, -1000]], np.float32)
    np.testing.assert_array_equal(F.softmax(x).array, [[1, 0, 0]])
    np.testing.assert_array_equal(F.log_softmax(x).array, [[0, -1000, -2000]])


@pytest.mark.parametrize("func", [F.softmax, F.log_softmax])
def test_empty_batches_and_wrong_inputs(func):
    check_empty(func, (0, 3))
    with pytest.raises(InvalidType, match=rf"(?s)in: {func.__name__} .*one element or more along axis 1.*\(3, 0\)"):
        func(np.ones((3, 0)))
    with pytest.raises(InvalidType, match=rf"(?s)in: {func.__name__} .*Argument: axis\nExpect: -1 … 0"):
        func(np.ones(3))
    with pytest.raises(InvalidType, match=rf"(?s)in: {func.__name__} .*Argument: x\nExpect: a floating"):
        func(np.ones((2, 3), int))
