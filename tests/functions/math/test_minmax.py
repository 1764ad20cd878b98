from __future__ import annotations

import numpy as np
import pytest

import distrain.functions as F
from distrain import Variable
from distrain.errors import InvalidType
from tests.functions.cases import check_empty, check_function, draw


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2)])
@pytest.mark.parametrize(("func", "expected"), [(F.max, np.max), (F.min, np.min)])
def test_over_axes(func, expected, axis, keepdims):
    check_function(
        lambda x: func(x, axis, keepdims), draw((2, 3, 4)), lambda x: expected(x, axis=axis, keepdims=keepdims)
    )


def test_equal_elements_share_the_gradient():
    x = Variable(np.array([[1.0, 1.0, 0.0], [1.0, 2.0, 2.0]]))
    F.sum(F.max(x, axis=1)).backward()
    np.testing.assert_array_equal(x.grad, [[0.5, 0.5, 0], [0, 0.5, 0.5]])


@pytest.mark.parametrize("shapes", [((3, 2), (3, 2)), ((3, 2), (2,)), ((), (3,)), ((), ())])
@pytest.mark.parametrize(("func", "expected"), [(F.maximum, np.maximum), (F.minimum, np.minimum)])
def test_of_two_arrays(func, expected, shapes):
    check_function(func, draw(*shapes), expected)


def test_of_three_arrays():
    check_function(F.maximum, draw((3, 2), (3, 2), (2,)), lambda a, b, c: np.maximum(np.maximum(a, b), c))
    check_function(F.minimum, draw((3, 2), (3, 2), (2,)), lambda a, b, c: np.minimum(np.minimum(a, b), c))


@pytest.mark.parametrize("func", [F.maximum, F.minimum])
def test_the_first_of_equals_has_the_gradient(func):
    a, b = Variable(np.ones(2)), Variable(np.ones(2))
    F.sum(func(a, b)).backward()
    np.testing.assert_array_equal(a.grad, [1, 1])
    np.testing.assert_array_equal(b.grad, [0, 0])


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (None, 0.5), (-0.5, None)])
def test_clip(low, high):
    check_function(lambda x: F.clip(x, low, high), draw((3, 4)), lambda x: np.clip(x, low, high))
    check_empty(lambda x: F.clip(x, low, high), (0, 3))


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize(("func", "expected"), [(F.argmax, np.argmax), (F.argmin, np.argmin)])
def test_where_it_is(func, expected, axis):
    (x,) = draw((3, 4))
    y = func(Variable(x), axis)
    np.testing.assert_array_equal(y.array, expected(x, axis=axis))
    assert y.dtype.kind == "i"
    assert not y.requires_grad
    assert y.creator is None


@pytest.mark.parametrize("func", [F.max, F.min, F.argmax, F.argmin])
def test_nothing_to_choose_from_is_refused(func):
    with pytest.raises(
        InvalidType, match=rf"(?s)in: {func.__name__} .*Actual: shape \(0, 3\), float64 with axis \(0,\)"
    ):
        func(np.ones((0, 3)), axis=0)
    with pytest.raises(InvalidType, match=r"(?s)Argument: axis\nExpect: -2 … 1 for 2 axes\nActual: 5"):
        func(np.ones((2, 3)), axis=5)


def test_other_wrong_inputs_are_refused():
    with pytest.raises(InvalidType, match=r"(?s)clip .*Argument: x_min\nExpect: at most x_max, 1\nActual: 2"):
        F.clip(np.ones(2), 2, 1)
    with pytest.raises(InvalidType, match=r"(?s)maximum .*\(2,\) and \(3,\)"):
        F.maximum(np.ones(2), np.ones(3))
